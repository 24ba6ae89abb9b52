// What a person says of an answer: right, another class, or none of them. Nothing is sent before the person agreed.

const agreement = document.getElementById("consent");
let agreed = false;

for (const [id, word] of [["agree", "yes"], ["disagree", ""]]) {
  document.getElementById(id).addEventListener("click", () => agreement.close(word));
}

/** Whether the person agrees; asked once, as long as the page is open. */
function consent() {
  if (agreed) return Promise.resolve(true);
  agreement.returnValue = "";
  agreement.showModal();
  return new Promise((resolve) => {
    agreement.addEventListener("close", () => {
      agreed = agreement.returnValue === "yes";
      resolve(agreed);
    }, { once: true });
  });
}

/** Shows the question on a card. send(said, label): keeps it on the server, or throws with words. */
export function offer(card, name, answer, send) {
  const part = (selector) => card.querySelector(selector);
  const question = part(".feedback"), right = part(".right"), other = part(".other"), none = part(".none-of-these");
  const others = Object.keys(answer.probabilities).filter((label) => label !== answer.label);
  question.hidden = false;
  question.ariaLabel = `Is the answer for ${name} right?`;
  // Of an image unlike any, the answer is that; its nearest class is another claim.
  right.textContent = answer.verdict === "unlike" ? `It is ${answer.label}` : "Right";
  other.replaceChildren(new Option("It is …", ""), ...others.map((label) => new Option(`It is ${label}`, label)));
  other.hidden = others.length === 0;

  async function say(said, label = "") {
    const told = part(".kept");
    if (!(await consent())) {
      other.value = question.dataset.label ?? "";
      return;
    }
    told.textContent = "Sending …";
    try {
      await send(said, label);
      question.dataset.label = label;
      told.textContent = "Kept. Thank you.";
      right.ariaPressed = String(said === "right");
      none.ariaPressed = String(said === "none");
    } catch (error) {
      told.textContent = `Not kept: ${error.message}`;
    }
    other.value = question.dataset.label ?? "";
  }

  right.addEventListener("click", () => say("right"));
  none.addEventListener("click", () => say("none"));
  other.addEventListener("change", () => other.value && say("other", other.value));
}
