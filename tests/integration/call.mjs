// Calls a gate's API with the AWS SDK for JavaScript and nodemailer, and prints the answers.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const job = JSON.parse(readFileSync(0, "utf8"));
const require = createRequire(`${job.modules}/`);
const { SESv2Client, SendEmailCommand, ...commands } = require("@aws-sdk/client-sesv2");
const nodemailer = require("nodemailer");

// The endpoint, the region and the key come from the environment.
const sesClient = new SESv2Client({ maxAttempts: 1 });
const transport = nodemailer.createTransport({ SES: { sesClient, SendEmailCommand } });
const answers = { verified: await transport.verify().catch((error) => error.name) };

const sent = await transport.sendMail({
  from: `News <${job.from}>`,
  to: "jane@example.net",
  bcc: "joe@example.org",
  subject: "Grüße",
  text: "Hello.",
  attachments: [{ filename: "figures.csv", content: "a,b" }],
});
answers.sent = sent.response;

const listed = await sesClient.send(new commands.ListEmailIdentitiesCommand({}));
answers.identities = listed.EmailIdentities.map((one) => one.IdentityName);
try {
  await sesClient.send(new commands.GetEmailIdentityCommand({ EmailIdentity: "example.org" }));
} catch (error) {
  answers.refused = [error.name, error.$metadata.httpStatusCode, Boolean(error.$metadata.requestId)];
}
console.log(JSON.stringify(answers));
