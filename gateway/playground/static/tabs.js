// Tabs, by keyboard too: arrows go from one to the next. The address says which one is open.

import { fill, make, uniqueId } from "./dom.js";

/** @typedef {[name: string, title: string, content: HTMLElement]} Tab */

export class Tabs extends HTMLElement {
  /** @param {Tab[]} tabs */
  constructor(tabs) {
    super();
    this.names = tabs.map(([name]) => name);
    this.panels = tabs.map(([, , content]) => make("div", { role: "tabpanel", id: uniqueId() }, content));
    this.buttons = tabs.map(([name, title], at) => {
      const made = make("button", { type: "button", role: "tab", id: uniqueId(), text: title, "aria-controls": this.panels[at].id });
      made.addEventListener("click", () => {
        history.replaceState(null, "", at ? `#${name}` : location.pathname + location.search);
        this.open(at);
      });
      this.panels[at].setAttribute("aria-labelledby", made.id);
      return made;
    });
    const list = make("div", { role: "tablist", "aria-label": "What of it" }, ...this.buttons);
    list.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      const at = (this.buttons.findIndex((each) => each === document.activeElement) + by + tabs.length) % tabs.length;
      this.buttons[at].focus();
      this.buttons[at].click();
    });
    fill(this, list, ...this.panels);
    window.addEventListener("hashchange", () => this.look());
    this.open(0);
    this.look();
  }

  look() {
    const at = this.names.indexOf(location.hash.slice(1));
    if (at >= 0) this.open(at); // other words there are not for the tabs
  }

  /** @param {number} at */
  open(at) {
    this.panels.forEach((panel, each) => (panel.hidden = each !== at));
    this.buttons.forEach((button, each) => {
      button.setAttribute("aria-selected", String(each === at));
      button.tabIndex = each === at ? 0 : -1;
    });
  }
}

customElements.define("fs-tabs", Tabs);
