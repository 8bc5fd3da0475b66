// The function node of flows.json: checks the signature, answers at once, and sends the job.
const crypto = global.get("crypto");
const expected = "sha256=" + crypto.createHmac("sha256", env.get("GITHUB_SECRET")).update(msg.payload).digest("hex");
const found = String(msg.req.headers["x-hub-signature-256"]);
if (found.length !== expected.length || !crypto.timingSafeEqual(Buffer.from(found), Buffer.from(expected))) {
    msg.statusCode = 401;
    msg.payload = { error: "bad signature" };
    return [msg, null];
}
const push = JSON.parse(msg.payload);
return [
    { req: msg.req, res: msg.res, statusCode: 202, payload: { ok: true } },
    {
        headers: { "content-type": "application/json" },
        payload: { task_arguments: [push.ref, push.after, push.repository.full_name] },
    },
];
