// A peer for Modality Performed Procedure Steps that is not ours: dcmjs-dimse (npm), as RIS and as modality.
// usage: node mpps_peer.mjs NODE_MODULES scp PORT                   prints "ready", then one JSON line a request
//        node mpps_peer.mjs NODE_MODULES scu PORT CALLED_AET < JSON  a list of [verb, uid, attributes] (create, set, notify: an IAN); prints the statuses
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import path from "node:path";

const require = createRequire(path.join(process.argv[2], "x.js"));
// Its log goes to standard error: standard output is ours.
console.log = console.info = console.warn = console.debug = console.error;
const { Client, Dataset, Scp, Server, requests, responses, constants } = require("dcmjs-dimse");
const MPPS = "1.2.840.10008.3.1.2.3.3";
const IAN = "1.2.840.10008.5.1.4.33";
const [, , , role, port, called] = process.argv;
const tell = (value) => process.stdout.write(JSON.stringify(value) + "\n");

class Ris extends Scp {
  associationRequested(association) {
    for (const { id } of association.getPresentationContexts()) {
      const context = association.getPresentationContext(id);
      const known = context.getAbstractSyntaxUid() === MPPS;
      const syntax = context.getTransferSyntaxUids()[0];
      if (known) context.setResult(constants.PresentationContextResult.Accept, syntax);
      else context.setResult(constants.PresentationContextResult.RejectAbstractSyntaxNotSupported);
    }
    tell({ verb: "associate", calling: association.getCallingAeTitle() });
    this.sendAssociationAccept();
  }
  nCreateRequest(request, callback) {
    const uid = request.getAffectedSopInstanceUid();
    tell({ verb: "create", uid, attributes: request.getDataset().getElements() });
    const answer = responses.NCreateResponse.fromRequest(request);
    answer.setStatus(constants.Status.Success);
    callback(answer);
  }
  nSetRequest(request, callback) {
    const uid = request.getRequestedSopInstanceUid();
    tell({ verb: "set", uid, attributes: request.getDataset().getElements() });
    const answer = responses.NSetResponse.fromRequest(request);
    answer.setStatus(constants.Status.Success);
    callback(answer);
  }
  associationReleaseRequested() {
    this.sendAssociationReleaseResponse();
  }
}

function ask([verb, uid, attributes]) {
  return new Promise((resolve, reject) => {
    const Request = verb === "set" ? requests.NSetRequest : requests.NCreateRequest;
    const request = new Request(verb === "notify" ? IAN : MPPS, uid);
    request.setDataset(new Dataset(attributes));
    let status;
    request.on("response", (response) => (status = response.getStatus()));
    const client = new Client();
    client.addRequest(request);
    client.on("closed", () => resolve(status));
    client.on("networkError", reject);
    client.on("associationRejected", reject);
    client.send("127.0.0.1", Number(port), "DCMJS", called);
  });
}

if (role === "scp") {
  const server = new Server(Ris);
  server.on("networkError", (error) => tell({ error: String(error) }));
  server.listen(Number(port));
  tell("ready");
} else {
  const statuses = [];
  for (const each of JSON.parse(readFileSync(0, "utf8"))) statuses.push(await ask(each));
  tell(statuses);
}
