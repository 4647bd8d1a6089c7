/* Lets a project export twice, follows the first and cancels the second, for a user whose cookies it is given. */

import { all, connectAs } from "./list";
import { cancel, follow, outputs, type Status, uuidOf } from "./tasks";

declare const process: { argv: string[] };

const [site = "", cookie = "", token = ""] = process.argv.slice(2);
const headers = { Cookie: cookie, "X-CSRFToken": token };
const tasks = connectAs(`${site}/api`, headers);

async function start(): Promise<string> {
  const response = await fetch(`${site}/exports/`, { method: "POST", headers });
  if (response.status !== 202) throw new Error(response.statusText);
  return uuidOf(response.headers.get("Location") ?? "");
}

let followed: Status | undefined;
for await (const status of follow(tasks, await start())) followed = status;
if (!followed) throw new Error("Nothing was followed");

const canceled = await cancel(tasks, await start());

const listed: string[] = [];
for await (const { state } of all(tasks)) listed.push(state);

console.log(
  JSON.stringify({
    state: followed.state,
    steps: [followed.completed_steps, followed.total_steps],
    texts: (await outputs(tasks, followed)).map(({ text }) => text),
    canceled: canceled.state,
    listed,
  }),
);
