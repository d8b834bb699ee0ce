// Ask the search of a built site, with its own code: node search.js SITE < queries.json > answers.json
import fs from "node:fs";
import path from "node:path";
import vm from "node:vm";

const site = process.argv[2];
const workers = path.join(site, "assets", "javascripts", "workers");
const [name] = fs.readdirSync(workers).filter((each) => each.startsWith("search."));
const index = JSON.parse(fs.readFileSync(path.join(site, "search.json"), "utf8"));
const queries = JSON.parse(fs.readFileSync(0, "utf8"));

let answered;
const self = { postMessage: (message) => answered(message) };
vm.runInNewContext(fs.readFileSync(path.join(workers, name), "utf8"), { self, Intl });
const ask = (type, data) =>
  new Promise((resolve) => {
    answered = resolve;
    self.onmessage({ data: { type, data } });
  });

await ask(0, index);
const found = [];
for (const input of queries) {
  // The search changes the filter that it gets.
  const filter = { input: { type: "operator", data: { operator: "and", operands: [] } } };
  const { type, data } = await ask(2, { input, filter });
  if (type !== 3) throw new Error(`no answer to ${input}`);
  found.push(data.items.map((item) => index.items[item.id].location));
}
console.log(JSON.stringify(found));
