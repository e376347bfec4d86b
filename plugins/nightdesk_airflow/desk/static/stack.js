// The pages of a stack and of a frame.
import { pageData } from "./desk.js";
import { mount } from "./controls.js";

mount(pageData()).catch((error) => { document.getElementById("shown").textContent = error.message; });

const find = document.getElementById("find");
find?.addEventListener("input", () => {
  const wanted = find.value.toLowerCase();
  for (const row of document.querySelectorAll("#header tbody tr")) row.hidden = !row.textContent.toLowerCase().includes(wanted);
});
