// A picture: by file, drop, paste, camera or address. Files go to the service's uploads, so that requests stay small.

import { Control } from "./control.js";
import { fill, make } from "./dom.js";
import { shown } from "./pictures.js";
import { own, upload } from "./service.js";

/** @typedef {import("./schema.js").Field} Field */

export class ImageField extends Control {
  /** @param {Field} field */
  constructor(field) {
    super(field);
    this.url = "";
    this.shown = "";
    this.kept = ""; // what is shown of the address, while a file is on its way
    /** @type {File | null} */
    this.file = null; // which is shown
    /** @type {Promise<unknown>} */
    this.pending = Promise.resolve();
    this.address = make("input", { type: "text", placeholder: "or the address of a picture", autocomplete: "off", spellcheck: "false" });
    this.address.setAttribute("aria-label", `${field.label}: address`);
    this.address.addEventListener("change", () => this.show(this.address.value.trim()));
    this.picture = make("div", { class: "picture" });
    this.said = make("p", { class: "said", role: "status" });
    this.removal = make("button", { type: "button", class: "quiet", text: "Remove", onclick: () => this.clear() });
    fill(this, this.picture, this.chooser("Choose a picture", {}), this.chooser("Camera", { capture: "environment" }));
    this.reads = make("p", { class: "hint reads" }); // what of the picture is read
    this.append(this.removal, this.address, this.said, this.reads);
    this.addEventListener("dragover", (event) => this.hover(event, true));
    this.addEventListener("dragleave", (event) => this.hover(event, false));
    this.addEventListener("drop", (event) => {
      this.hover(event, false);
      this.take(event.dataTransfer);
    });
    this.draw();
  }

  /** @param {string} text @param {Record<string, any>} more */
  chooser(text, more) {
    const file = make("input", { type: "file", accept: "image/*", ...more, "aria-label": `${this.field.label}: ${text.toLowerCase()}` });
    file.addEventListener("change", (event) => {
      event.stopPropagation(); // the change is told when the picture is there
      if (file.files?.[0]) this.give(file.files[0]);
      file.value = "";
    });
    return make("label", { class: more.capture ? "button camera" : "button" }, text, file);
  }

  /** @param {DragEvent} event @param {boolean} over */
  hover(event, over) {
    event.preventDefault();
    this.classList.toggle("over", over);
  }

  /** What was dropped or pasted: a picture's file, or an address. @param {DataTransfer | null} given */
  take(given) {
    const file = [...(given?.files ?? [])].find((each) => each.type.startsWith("image/"));
    if (file) return this.give(file);
    const text = given?.getData("text/uri-list") || given?.getData("text/plain") || "";
    if (/^(https?:|data:image\/|\/)/.test(text)) this.show(new URL(text, location.href).href);
    else this.said.textContent = "That is no picture.";
  }

  /** Takes a file of a person, which may say how it was drawn. @param {File} file */
  give(file) {
    this.load(file);
    this.dispatchEvent(new CustomEvent("given", { bubbles: true, detail: file }));
  }

  /** @param {File} file @returns {Promise<boolean>} False where it could not be uploaded. */
  load(file) {
    const sent = this.send(file);
    this.pending = sent;
    return sent;
  }

  /** @param {File} file */
  async send(file) {
    const shown = URL.createObjectURL(file);
    this.see(shown, this.kept, file);
    this.said.textContent = `${file.name} is being uploaded …`;
    this.draw();
    try {
      const url = await upload(file, file.name);
      if (this.shown !== shown) return true; // another one was chosen meanwhile
      this.url = url;
      this.see(shown, shown, file);
      this.said.textContent = file.name;
    } catch (fault) {
      if (this.shown !== shown) return true;
      this.see(this.kept, this.kept, null); // what was there before stays
      this.said.textContent = `${file.name} could not be uploaded: ${/** @type {Error} */ (fault).message}`;
    }
    this.draw();
    this.changed();
    return this.shown === shown;
  }

  /** @param {string} shown @param {string} kept What is shown again if the file cannot be uploaded. @param {File | null} file */
  see(shown, kept, file) {
    const left = [this.shown, this.kept].filter((each) => each.startsWith("blob:") && each !== shown && each !== kept);
    for (const each of left) URL.revokeObjectURL(each);
    if (file !== this.file) this.querySelector("fs-found")?.remove(); // the settings that another one told
    [this.shown, this.kept, this.file] = [shown, kept, file];
  }

  async settled() {
    await this.pending;
  }

  clear() {
    this.show("");
  }

  /** @param {string} url */
  show(url) {
    this.url = url;
    const shown = url ? own(url) ?? "" : "";
    this.see(shown, shown, null);
    this.said.textContent = url && !this.shown ? "The service will fetch it." : "";
    this.draw();
    this.changed();
  }

  draw() {
    this.address.value = this.url.startsWith("data:") ? "" : this.url;
    this.removal.hidden = !this.url;
    this.classList.toggle("filled", Boolean(this.url));
    const invite = make("span", { text: this.url ? "Picture of another host" : "Drop or paste a picture here" });
    fill(this.picture, this.shown ? make("div", { class: "seen" }, shown({ url: this.shown }, `${this.field.label}, as chosen`)) : invite);
  }

  get value() {
    return this.url || undefined;
  }

  set value(value) {
    if ((value ?? "") !== this.url) this.show(value ?? "");
  }
}

customElements.define("fs-image", ImageField);
