// Sends one message with nodemailer; what and how comes as JSON on standard input.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const job = JSON.parse(readFileSync(0, "utf8"));
const nodemailer = createRequire(`${job.modules}/`)("nodemailer");
const transport = nodemailer.createTransport({
  host: job.host,
  port: job.port,
  secure: job.implicitTls,
  requireTLS: true,
  authMethod: job.mechanism,
  auth: { user: job.username, pass: job.password },
  tls: { ca: readFileSync(job.caFile), servername: job.tlsName },
});
const told = await transport.sendMail({
  envelope: { from: job.sender, to: job.recipients, use8BitMime: job.eightBit },
  raw: readFileSync(job.messageFile),
});
console.log(told.response);
transport.close();
