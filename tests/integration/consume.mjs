// Feeds calls of webhooks to sns-validator and standardwebhooks of npm, and prints their verdicts.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(process.argv[2] + "/");
const MessageValidator = require("sns-validator");
const { Webhook } = require("standardwebhooks");
const read = JSON.parse(readFileSync(0, "utf8"));

const validator = new MessageValidator(/^localhost:[0-9]+$/, "utf8");
const validated = (text) => new Promise((resolve) =>
  validator.validate(text, (error) => resolve(error ? `refused: ${error.message}` : "valid")));

const verified = (call, body) => {
  try {
    new Webhook(call.secret).verify(body, call.headers);
    return "verified";
  } catch (error) {
    return "refused";
  }
};

const sns = [];
for (const call of read.sns) {
  const forged = JSON.parse(call.body);
  forged.Message += " ";
  sns.push([await validated(call.body), await validated(JSON.stringify(forged))]);
}
const raw = read.raw.map((call) => [verified(call, call.body), verified(call, call.body + " ")]);
console.log(JSON.stringify({ "sns-validator": sns, standardwebhooks: raw }));
