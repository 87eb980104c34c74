// The question for the server's token. It is kept by the page's memory alone.

import { byId } from "./dom.js";

/** Asks the user; resolves to the token, or to null. `wrong` says that the last one was not accepted. */
export function askToken(wrong) {
  const dialog = byId("token");
  const field = byId("token-field");
  byId("token-wrong").hidden = !wrong;
  field.value = "";
  dialog.showModal();
  field.focus();
  return new Promise((resolve) => {
    let answer = null;
    const send = (event) => {
      event.preventDefault();
      answer = field.value.trim() || null;
      field.value = "";
      dialog.close();
    };
    const cancel = () => dialog.close();
    byId("token-form").addEventListener("submit", send);
    byId("token-cancel").addEventListener("click", cancel);
    dialog.addEventListener(
      "close",
      () => {
        byId("token-form").removeEventListener("submit", send);
        byId("token-cancel").removeEventListener("click", cancel);
        resolve(answer);
      },
      { once: true },
    );
  });
}
