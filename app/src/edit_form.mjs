// A question that is edited, in its place.
import { growing, isSend } from "./composer.mjs";
import { make } from "./dom.mjs";
import { t } from "./words.mjs";

/** send(text) is called with the new words; false leaves the form open. */
export function openEdit(view, send) {
  const area = make("textarea", { rows: 1, value: view.message.text, ariaLabel: t("edit"), dir: "auto" });
  const end = () => {
    form.remove();
    view.item.classList.remove("editing");
  };
  const cancel = make("button", { type: "button", textContent: t("cancel"), onclick: end });
  const form = make("form", { className: "edit" }, area, make("div", {}, cancel, make("button", { className: "main", textContent: t("sendAgain") })));
  form.onsubmit = (event) => {
    event.preventDefault();
    const text = area.value.trim();
    if (text && send(text)) end();
  };
  area.onkeydown = (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      end();
    } else if (isSend(event)) {
      event.preventDefault();
      form.requestSubmit();
    }
  };
  view.item.classList.add("editing");
  view.body.append(form);
  growing(area);
  area.focus();
}
