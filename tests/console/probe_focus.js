// Where the focus is, and whether one can see it; null: nowhere.
() => {
  const at = document.activeElement;
  if (at === document.body) return null;
  const styles = [at, at.nextElementSibling].filter(Boolean).map((each) => getComputedStyle(each));
  return {
    name: at.id || at.closest("[id]")?.id || at.textContent,
    tag: at.tagName,
    ring: styles.some((style) => style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0),
  };
}
