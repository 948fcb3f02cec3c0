// An HL7 receiver that is not ours: @medplum/hl7 takes each message by MLLP, reads it, and acknowledges it.
// usage: node hl7_receiver.mjs NODE_MODULES   (prints its port, then one JSON line for each message)
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.join(process.argv[2], "x.js"));
const { Hl7Server } = require("@medplum/hl7");

const server = new Hl7Server((connection) => {
  connection.addEventListener("message", ({ message }) => {
    const header = message.header;
    const told = {
      kind: header.getField(9).toString(),
      control_id: header.getField(10).toString(),
      segments: message.segments.map((segment) => segment.name),
      patient: Boolean(message.getSegment("PID")?.getComponent(3, 1)),
      values: message.segments.filter((s) => s.name === "OBX").map((s) => s.getField(5).toString().length),
    };
    process.stdout.write(JSON.stringify(told) + "\n");
    connection.send(message.buildAck());
  });
  connection.addEventListener("error", ({ error }) => {
    process.stdout.write(JSON.stringify({ error: String(error) }) + "\n");
  });
});
await server.start(0);
process.stdout.write(JSON.stringify({ port: server.server.address().port }) + "\n");
