// Sends a file to the server. XMLHttpRequest tells how much of it has gone; fetch does not.
import { Trouble } from "./client.mjs";
import { refusal } from "./http_client.mjs";

/** The server's answer. Throws a Trouble, or an AbortError if the signal ends it. */
export function upload(client, path, file, { signal, progress }) {
  const request = new XMLHttpRequest();
  return new Promise((resolve, reject) => {
    request.open("PUT", path);
    request.setRequestHeader("Authorization", `Bearer ${client.key}`);
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => progress({ doing: "copy", done: loaded, total, note: null });
    request.onload = () => (request.status === 200 ? resolve(request.response) : reject(refusal(request.status, request.response)));
    request.onerror = () => reject(new Trouble("unreachable", ""));
    request.onabort = () => reject(new DOMException("", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}
