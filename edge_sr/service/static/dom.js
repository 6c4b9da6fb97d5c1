// Elements by id, and elements made of text: nothing that was received is ever parsed as markup.

export const byId = (id) => document.getElementById(id);

/** Makes an element. `properties` are set on it, a name with a hyphen as an attribute; children are nodes or text. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Offers bytes as a file. The link owns the object URL; call `release` when it is no longer shown. */
export function downloadLink(bytes, mediaType, name, words) {
  const url = URL.createObjectURL(new Blob([bytes], { type: mediaType }));
  const link = make("a", { href: url, download: name, className: "button" }, words);
  return { link, release: () => URL.revokeObjectURL(url) };
}
