// What the token source of examples/browser does in a real browser. The test reads the report.

import { RefusedError, TokenSource } from "/token-source.js";

const parameters = new URLSearchParams(location.search);
const report = {};

/** Tell the endpoint how to answer, and forget what it was asked. */
const endpoint = (mode) => fetch(`/control/${mode}`, { method: "POST" });
const asked = async () => (await fetch("/asked")).json();

function source(options) {
	const clock = { offset: 0 };
	const made = new TokenSource("/token", { now: () => Date.now() + clock.offset * 1000, ...options });
	return { made, clock };
}

async function failure(promise) {
	try {
		await promise;
	} catch (error) {
		return `${error instanceof RefusedError ? error.status : "outage"}: ${error.message}`;
	}
	return "none";
}

const scenarios = {
	async fetches() {
		await endpoint("good");
		const { made } = source({ body: { room_name: "7" }, headers: { "X-User": "alice" } });
		return { credential: await made.get(), again: (await made.get()).token, asked: await asked() };
	},

	async renews() {
		await endpoint("good");
		const { made, clock } = source();
		const tokens = [];
		for (const offset of [0, 69, 86, 86 + 69, 86 + 86]) {
			clock.offset = offset;
			tokens.push((await made.get()).token);
		}
		return { tokens, asked: await asked() };
	},

	async sharesOneRequest() {
		await endpoint("slow");
		const { made } = source();
		const found = await Promise.all(Array.from({ length: 20 }, () => made.get()));
		return { tokens: found.map(({ token }) => token), asked: await asked() };
	},

	async survivesAnOutage() {
		await endpoint("good");
		const { made, clock } = source();
		const first = (await made.get()).token;
		await endpoint("down");
		clock.offset = 86;
		const during = [(await made.get()).token, (await made.get()).token];
		const attempts = await asked();
		clock.offset = 96;
		const after = await failure(made.get());
		await endpoint("good");
		clock.offset = 200;
		return { first, during, attempts, after, later: (await made.get()).token };
	},

	async isNotHeldUpByARenewal() {
		await endpoint("good");
		const { made, clock } = source({ timeout: 3_600_000 });
		const first = (await made.get()).token;
		await endpoint("hangs");
		clock.offset = 86;
		const during = (await made.get()).token;
		await endpoint("good"); // which ends the request
		return { first, during };
	},

	async renewsAfterAClockIsSetBack() {
		await endpoint("good");
		const { made, clock } = source();
		const first = (await made.get()).token;
		clock.offset = -1000;
		const second = (await made.get()).token;
		await endpoint("down");
		clock.offset = -2000;
		const third = (await made.get()).token;
		await endpoint("good");
		clock.offset = -3000;
		return { tokens: [first, second, third, (await made.get()).token], asked: await asked() };
	},

	async isRefused() {
		await endpoint("good");
		const { made, clock } = source();
		await made.get();
		await endpoint("refused");
		clock.offset = 86;
		const failures = [await failure(made.get()), await failure(made.get())];
		await endpoint("refused-by-fastapi");
		clock.offset = 100;
		return [...failures, await failure(made.get())];
	},

	async waitsAsLongAsItIsTold() {
		await endpoint("busy");
		const { made, clock } = source();
		const failures = [await failure(made.get())];
		clock.offset = 80;
		failures.push(await failure(made.get()));
		const before = await asked();
		clock.offset = 100;
		failures.push(await failure(made.get()));
		return { failures, before, after: await asked() };
	},

	async connects() {
		if (!parameters.get("certificate")) return null;
		const Moq = await import("@moq/net");
		await endpoint("good");
		const pinned = {
			webtransport: { serverCertificateHashes: [{ value: parameters.get("certificate") }] },
			websocket: { enabled: false },
		};
		const { made } = source({ headers: { "X-User": "alice" } });
		const publisher = await made.connect(Moq, pinned);
		publisher.publish(Moq.Path.from("alice"), new Moq.Broadcast.Producer());
		const viewer = await made.connect(Moq, pinned);
		const first = await viewer.announced().next();
		for (const connection of [publisher, viewer]) connection.close();
		return { path: first.path, version: viewer.version, asked: await asked() };
	},
};

for (const [name, run] of Object.entries(scenarios)) {
	try {
		report[name] = await run();
	} catch (error) {
		report[name] = { error: [error, ...(error.errors ?? [])].map((each) => String(each.stack ?? each)).join("\n") };
	}
}
await fetch("/report", { method: "POST", body: JSON.stringify(report) });
