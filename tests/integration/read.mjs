// Reads messages, one in base64 a line, and prints what three readers find in them, a line each.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(process.argv[2] + "/");
const { simpleParser } = require("mailparser");
const postal = require("postal-mime");
const nodemailer = require("nodemailer/lib/addressparser");
const PostalMime = postal.default ?? postal;
const addressparser = nodemailer.default ?? nodemailer;

const flat = (list) => list.flatMap((one) => (one.group ? flat(one.group) : [one.address ?? ""]));
const value = (line) => Buffer.from(line.slice(line.indexOf(":") + 1), "latin1").toString()
  .replace(/\r?\n/g, "");

async function byMailparser(octets) {
  const mail = await simpleParser(octets, { skipTextToHtml: true, skipTextLinks: true });
  return (name) => {
    const lines = mail.headerLines.filter((line) => line.key === name);
    return [...flat(mail[name]?.value ?? mail.headers.get(name)?.value ?? []),
            ...lines.flatMap((line) => flat(addressparser(value(line.line))))];
  };
}

async function byPostalMime(octets) {
  const mail = await PostalMime.parse(octets);
  return (name) => mail.headers.filter((field) => field.key === name)
    .flatMap((field) => flat(postal.addressParser(field.value)));
}

for await (const line of createInterface({ input: process.stdin })) {
  const octets = Buffer.from(line, "base64");
  const found = {};
  for (const [reader, read] of [["mailparser", byMailparser], ["postal-mime", byPostalMime]]) {
    const addresses = await read(octets);
    found[reader] = { from: addresses("from"), sender: addresses("sender") };
  }
  console.log(JSON.stringify(found));
}
