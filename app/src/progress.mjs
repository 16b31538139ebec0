// What a host is doing, in words.
import { number, size, t } from "./words.mjs";

/** progress: {doing, name, done, total, unit: "bytes" | "tokens", note}, all but doing optional; see client.mjs. */
export function progressWords({ doing, name, done, total, unit, note }) {
  const shown = unit === "tokens" ? number : size;
  const parts = [t(`doing_${doing}`, { name })];
  if (total) parts.push(t("doneOf", { done: shown(done), total: shown(total) }));
  else if (done) parts.push(shown(done));
  const words = parts.join(": ");
  return note ? `${words}; ${note}` : words;
}
