// Makes elements. Texts go in as text, never as HTML.

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const PICTURE = new URL("icon.svg", import.meta.url).href;

const SHAPES = {
  plus: "M12 5v14M5 12h14",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13ZM20 20l-4.9-4.9",
  send: "M12 19V5M5.5 11.5 12 5l6.5 6.5",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h10v11H9zM15 9V4H5v11h4",
  check: "m5 12.5 4.5 4.5L19 7.5",
  again: "M19.5 12a7.5 7.5 0 1 1-2.2-5.3L19.5 9M19.5 4v5h-5",
  edit: "m4 20 .9-4L16 4.9l3.1 3.1L8 19.1zM13.5 7.4l3.1 3.1",
  bin: "M5 7h14M10 7V4h4v3M7 7l.8 13h8.4L17 7M10.3 11v5.5M13.7 11v5.5",
  back: "m14.5 6-6 6 6 6",
  on: "m9.5 6 6 6-6 6",
  fork: "M7 4v6a4 4 0 0 0 4 4h6M7 4v16M14 10.5l3.5 3.5-3.5 3.5",
  clip: "m18.5 11-6.8 6.8a4 4 0 0 1-5.7-5.7l7.2-7.2a2.7 2.7 0 0 1 3.8 3.8l-7 7a1.3 1.3 0 0 1-1.9-1.9l6.3-6.3",
  sliders: "M4 8h9M19 8h1M4 16h1M11 16h9M16 8m-2.5 0a2.5 2.5 0 1 0 5 0 2.5 2.5 0 1 0-5 0M8 16m-2.5 0a2.5 2.5 0 1 0 5 0 2.5 2.5 0 1 0-5 0",
  menu: "M4 7h16M4 12h16M4 17h16",
  out: "M12 4v11M7.5 10.5 12 15l4.5-4.5M5 19h14",
  into: "M12 15V4M7.5 8.5 12 4l4.5 4.5M5 19h14",
  close: "m6 6 12 12M18 6 6 18",
  down: "M12 5v14M5.5 12.5 12 19l6.5-6.5",
  box: "M12 3.5 4.5 7.5v9l7.5 4 7.5-4v-9zM4.7 7.7l7.3 4 7.3-4M12 11.7v8.6",
  shield: "M12 3.5 5 6v5.5c0 4.3 2.9 7.3 7 9 4.1-1.7 7-4.7 7-9V6z",
  gauge: "M4.5 18a9 9 0 1 1 15 0M12 14l4-5",
};

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
  shape.setAttribute("d", SHAPES[name]);
  svg.append(shape);
  return svg;
}

/** A button that shows an icon; its name is for those who hear it, and for the pointer that rests on it. */
export function iconButton(name, label, onclick, className = "icon") {
  return make("button", { type: "button", className, title: label, ariaLabel: label, onclick }, icon(name));
}

/** Whether a link may lead there. */
export function isWebAddress(text) {
  try {
    return ["http:", "https:"].includes(new URL(text).protocol);
  } catch {
    return false;
  }
}

/** A dialog is closed by a click beside it. */
export function closedBeside(dialog) {
  dialog.addEventListener("click", ({ target, clientX: x, clientY: y }) => {
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    if (target === dialog && (x < left || x > right || y < top || y > bottom)) dialog.close();
  });
  return dialog;
}

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // A server on the local network is no secure context: browsers have no clipboard there.
    const box = make("textarea", { value: text, className: "unseen" });
    document.body.append(box);
    box.select();
    document.execCommand("copy");
    box.remove();
  }
}

/** Shows for a moment that a button has done its work. */
export function done(button) {
  button.classList.add("done");
  setTimeout(() => button.classList.remove("done"), 1500);
}

export const download = (name, text, type) => downloadBlob(name, new Blob([text], { type }));

export function downloadBlob(name, blob) {
  const url = URL.createObjectURL(blob);
  const link = make("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
