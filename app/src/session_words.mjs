// What is said of a session file that was verified, in one sentence.
import { number, t } from "./words.mjs";

/** found: of check() in client.mjs; name: of the file. */
export function checkWords({ ok, tokens, differing, refusal, logits }, name) {
  const facts = { name, tokens: number(tokens) };
  if (ok) return t(logits ? "checkedGood" : "checkedWhole", { ...facts, ...logits });
  if (differing.length) return t("checkedDiffers", { ...facts, what: differing.map((one) => t("differs", one)).join(", ") });
  return refusal ? t("checkedRefused", { ...facts, why: refusal }) : t("checkedWrong", facts);
}
