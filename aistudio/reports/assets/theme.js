/* Runs before the first paint so that a remembered theme does not flash. Nothing else. */
(function () {
  "use strict";
  var theme = null;
  try { theme = localStorage.getItem("aistudio-theme"); } catch (e) { /* storage may be off */ }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  document.documentElement.classList.add("js");
})();
