// An HL7 reader that is not ours: node-hl7-client parses each message and writes it again.
// usage: node hl7_reader.mjs NODE_MODULES < messages in base64, one a line   (prints one JSON line for each)
import { createRequire } from "node:module";
import path from "node:path";
import { createInterface } from "node:readline";

const require = createRequire(path.join(process.argv[2], "x.js"));
const { Message } = require("node-hl7-client");

for await (const line of createInterface({ input: process.stdin })) {
  let told;
  try {
    const message = new Message({ text: Buffer.from(line, "base64").toString("utf-8") });
    told = {
      control_id: message.get("MSH.10").toString(),
      patient: message.get("PID.5").toString(),
      again: message.toString(),
    };
  } catch (error) {
    told = { error: String(error) };
  }
  process.stdout.write(JSON.stringify(told) + "\n");
}
