// An HL7 sender that is not ours: @medplum/hl7 reads each message, sends it by MLLP and reads what is answered.
// usage: node hl7_sender.mjs NODE_MODULES PORT < MESSAGES   (a JSON array of texts; prints a JSON array of
// [MSH-10, MSA-1, MSA-2] for each)
import { createRequire } from "node:module";
import fs from "node:fs";
import path from "node:path";

const require = createRequire(path.join(process.argv[2], "x.js"));
const { Hl7Client } = require("@medplum/hl7");
const { Hl7Message } = require("@medplum/core");

const client = new Hl7Client({ host: "127.0.0.1", port: Number(process.argv[3]) });
const rows = [];
for (const text of JSON.parse(fs.readFileSync(0, "utf8"))) {
  const message = Hl7Message.parse(text);
  const answer = await client.sendAndWait(message, { timeoutMs: 20000 });
  const msa = answer.getSegment("MSA");
  rows.push([message.header.getField(10), msa.getField(1), msa.getField(2)].map(String));
}
await client.close();
process.stdout.write(JSON.stringify(rows), () => process.exit(0)); // its timers would run on for the whole timeout
