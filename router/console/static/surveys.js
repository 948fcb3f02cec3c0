// Sends a survey's form as JSON: a marked number as a number, "can't say" as null, text as it is.
"use strict";

function answersOf(form) {
  const answers = {};
  for (const field of form.elements) {
    if (field.type === "radio" && field.checked) answers[field.name] = field.value ? Number(field.value) : null;
    if (field.type === "textarea") answers[field.name] = field.value;
  }
  return answers;
}

for (const form of document.querySelectorAll("form[data-survey]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = $("button", form);
    button.disabled = true; // two clicks are one answer
    try {
      await call("POST", form.dataset.survey, answersOf(form));
      location.assign(form.dataset.then);
    } catch (error) {
      $(".fault", form).textContent = error.message;
      button.disabled = false;
    }
  });
}
