// The head of every page: where one is, where one can go, the key, light or dark.

import { fill, make } from "./dom.js";
import { ADDRESS, KeyDialog } from "./key.js";
import { key } from "./service.js";

const THEME = "fooocus.theme";
const PAGES = [["/", "Playground", "playground"], ["/requests", "Requests", "requests"], ["/status", "Status", "status"]];

export class Header extends HTMLElement {
  connectedCallback() {
    const { page, keys } = document.body.dataset;
    const links = PAGES.map(([href, text, name]) => make("a", { href, text, "aria-current": name === page && "page" }));
    const keyed = make("a", { href: ADDRESS, class: "button", hidden: keys !== "required" });
    const tell = () => (keyed.textContent = key.get() ? "Your key" : "Enter a key");
    window.addEventListener("key", tell);
    tell();
    const theme = make("button", { type: "button", class: "quiet theme", title: "Light or dark", "aria-label": "Light or dark", text: "◐" });
    theme.addEventListener("click", () => turn());
    const brand = make("a", { href: "/", class: "brand" }, make("i", { "aria-hidden": "true" }), "Fooocus Serve");
    fill(this, brand, make("nav", { "aria-label": "Pages" }, ...links), keyed, theme, new KeyDialog());
    const chosen = localStorage.getItem(THEME);
    if (chosen) document.documentElement.dataset.theme = chosen;
  }
}

function turn() {
  const { dataset } = document.documentElement;
  const isDark = dataset.theme ? dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  dataset.theme = isDark ? "light" : "dark";
  localStorage.setItem(THEME, dataset.theme);
}

customElements.define("fs-header", Header);
