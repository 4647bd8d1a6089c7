/* Calls everything that the API has, and prints what it answers, for a user whose cookie it is given. */

import { all, connectAs } from "./list";
import { cancel, follow, isFinal, outputs, type Status, uuidOf } from "./tasks";

declare const process: { argv: string[] };

const [baseUrl = "", cookie = "", token = "", finished = "", running = "", missing = ""] = process.argv.slice(2);
const tasks = connectAs(baseUrl, { Cookie: cookie, "X-CSRFToken": token });

const followed: Status[] = [];
for await (const status of follow(tasks, finished)) followed.push(status);

const listed: string[] = [];
for await (const { name } of all(tasks)) listed.push(name);

const [last] = followed;
if (!last) throw new Error("Nothing was followed");
const found = await outputs(tasks, last);
const { data: artifacts = [] } = await tasks.GET("/artifacts/");

const lost = await follow(tasks, missing).next().catch((error: unknown) => String(error));
const canceled = await cancel(tasks, running);
const { response } = await tasks.DELETE("/tasks/{uuid}/", { params: { path: { uuid: running } } });

// @ts-expect-error: the compiler knows that there is no such field
void last.percentage;
// @ts-expect-error: nor such a call
void (() => tasks.PUT("/tasks/"));

console.log(
  JSON.stringify({
    followed: followed.map(({ state, completed_steps }) => [state, completed_steps]),
    isFinal: isFinal(last),
    listed: listed.length,
    texts: found.map(({ text }) => text),
    tasks: artifacts.map(({ status }) => uuidOf(status)),
    lost,
    canceled: canceled.state,
    deleted: response.status,
  }),
);
