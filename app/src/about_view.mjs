// What the model in use can do here, and why it cannot do the rest.
import { icon, make } from "./dom.mjs";
import { number, t } from "./words.mjs";

/** about: see client.mjs; title: of this part. */
export function aboutView(about, name, title = t("inUse")) {
  const { backend, threads, context, untrusted, flags } = about;
  const sentences = [t(untrusted ? "runsInSandbox" : "runsOn", { id: name, backend })];
  if (threads) sentences.push(threads === 1 ? t("hasOneThread") : t("hasThreads", { n: number(threads) }));
  if (context) sentences.push(t("hasContext", { n: number(context) }));
  const parts = [make("h3", { textContent: title }), make("p", { className: "facts", textContent: sentences.join(" ") })];
  const able = flags.filter(({ has }) => has);
  const unable = flags.filter(({ has }) => !has);
  parts.push(make("ul", { className: "flags" }, ...able.map(flagRow), ...unable.map(flagRow)));
  return parts;
}

function flagRow({ name, has, reason }) {
  const mark = make("span", { className: "sign", role: "img", ariaLabel: t(has ? "can" : "cannot") }, icon(has ? "check" : "close"));
  const words = make("span", { textContent: t(`flag_${name}`) ?? name });
  const why = !has && reason ? make("span", { className: "facts", textContent: reason }) : null;
  return make("li", { className: has ? "has" : "lacks" }, mark, make("span", { className: "what" }, words, why));
}
