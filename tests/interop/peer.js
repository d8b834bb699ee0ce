// The TypeScript original as a service: each line in is a call, `{"name": ..., "args": [...]}`, and each line out its
// answer, `{"value": ...}` or `{"error": ...}`. Keys come in as the text of their files.

import { createInterface } from "node:readline";
import { generate, load, loadPublic, sign, toPublicKey, verify } from "@moq/token";

// Verifies with the half that its own command line takes: the public one, or the secret where there is only one.
function verifying(text) {
	const key = load(text);
	return key.kty === "oct" ? key : toPublicKey(key);
}

const calls = {
	generate,
	load,
	loadPublic,
	sign: (text, claims) => sign(load(text), claims),
	verify: (text, token, root) => verify(verifying(text), token, root),
	verifyWithPublic: (text, token, root) => verify(loadPublic(text), token, root),
};

for await (const line of createInterface({ input: process.stdin })) {
	const { name, args } = JSON.parse(line);
	let answer;
	try {
		answer = { value: await calls[name](...args) };
	} catch (error) {
		answer = { error: error.message };
	}
	process.stdout.write(`${JSON.stringify(answer)}\n`);
}
