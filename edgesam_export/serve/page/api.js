// Requests to the server that the page came from.

export class Refused extends Error {
  constructor({ error, code }) {
    super(error);
    this.code = code; // refused, gone, stale, busy, failed
  }
}

const unanswered = (error) => new Refused({ error, code: "failed" });
const unreachable = () => unanswered("the server does not answer; is `edgesam-export serve` still running?");
const unreadable = ({ name }) => new Refused({ error: `${name}: cannot be read; choose an image file`, code: "refused" });

// A folder is no file, and a file that changed since it was chosen is not read by the browser.
const isReadable = (file) => file.slice(0, 1).arrayBuffer().then(() => true, () => false);

async function request(path, options) {
  const response = await fetch(path, options).catch((error) => {
    throw error.name === "AbortError" ? error : unreachable();
  });
  if (response.ok) return response;
  const other = () => unanswered(`the server answered ${response.status}`);
  throw await response.json().then((answer) => new Refused(answer), other);
}

function post(path, document, signal) {
  const headers = { "content-type": "application/json" };
  return request(path, { method: "POST", headers, body: JSON.stringify(document), signal });
}

export const setup = async () => (await request("/api/setup")).json();

export const download = async (document) => (await post("/api/download", document)).blob();

// Sends an image; onShare is told how much of it has arrived, 0 to 1. fetch cannot tell, so this is the older way.
export function upload(file, onShare) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open("POST", "/api/images");
    sending.setRequestHeader("content-type", "application/octet-stream");
    sending.upload.onprogress = (event) => event.lengthComputable && onShare(event.loaded / event.total);
    sending.onerror = async () => reject((await isReadable(file)) ? unreachable() : unreadable(file));
    sending.onload = () => {
      try {
        const answer = JSON.parse(sending.responseText);
        if (sending.status === 201) resolve(answer);
        else reject(new Refused(answer));
      } catch { // not JSON, so not from our server's own code
        reject(unanswered(`the server answered ${sending.status}`));
      }
    };
    sending.send(file);
  });
}

// Asks for a computation and returns its result; onProgress gets the steps. Aborting ends the computation too.
export async function compute(path, document, onProgress, signal) {
  const response = await post(path, document, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", found = null;
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : unreachable();
    });
    text += value ?? "";
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines) {
      const { progress, result, ...failure } = JSON.parse(line);
      if (progress) onProgress(progress);
      else if (result) found = result;
      else throw new Refused(failure);
    }
    if (done && found) return found;
    if (done) throw unreachable();
  }
}
