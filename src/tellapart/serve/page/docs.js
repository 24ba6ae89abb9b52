// Shows /openapi.json: every call with what it takes and answers.

function make(tag, text = "", ...inside) {
  const made = document.createElement(tag);
  made.textContent = text;
  made.append(...inside);
  return made;
}

/** What scrolls is reached by keyboard. */
function pre(text) {
  return Object.assign(make("pre", text), { tabIndex: 0 });
}

function table(head, rows) {
  const body = make("tbody", "", ...rows.map((cells) => make("tr", "", ...cells.map((cell) => make("td", cell)))));
  return make("table", "", make("thead", "", make("tr", "", ...head.map((cell) => make("th", cell)))), body);
}

function resolve(schema, all) {
  return schema?.$ref ? all[schema.$ref.split("/").at(-1)] : schema;
}

/** A schema as an example of its shape. */
function shape(schema, all) {
  const found = { ...resolve(schema, all), ...(schema?.description && { description: schema.description }) };
  if (found.anyOf) {
    const { anyOf, ...rest } = found;
    return shape({ ...resolve(anyOf.find((one) => one.type !== "null"), all), ...rest }, all);
  }
  if (found.type === "array") return [shape(found.items, all)];
  if (found.type === "object" && found.properties) {
    return Object.fromEntries(Object.entries(found.properties).map(([name, value]) => [name, shape(value, all)]));
  }
  if (found.type === "object") return { name: shape(found.additionalProperties, all) };
  if (found.contentEncoding === "base64") return "<base64>";
  return found.format === "binary" ? "<file>" : found.description ?? `<${found.type ?? "text"}>`;
}

function content(kinds, all) {
  return Object.entries(kinds ?? {}).map(([kind, { schema }]) =>
    pre(`${kind}\n${schema?.format === "binary" ? "<the image's bytes>" : JSON.stringify(shape(schema, all), null, 2)}`));
}

function call(path, method, what, all) {
  const made = make("section", "", make("h2", `${method.toUpperCase()} ${path}`), make("p", what.summary ?? ""));
  made.className = "call";
  if (what.description) made.append(make("p", what.description));
  if (what.parameters?.length) {
    made.append(table(["in the query", "what it does"], what.parameters.map((one) => [one.name, one.description ?? ""])));
  }
  if (what.requestBody) made.append(make("p", "Takes one of:"), ...content(what.requestBody.content, all));
  const good = what.responses["200"];
  if (good?.content?.["application/json"]?.schema?.$ref) made.append(make("p", "Answers:"), ...content(good.content, all));
  const others = Object.entries(what.responses).filter(([status]) => status !== "200");
  if (others.length) made.append(table(["status", "when"], others.map(([status, { description }]) => [status, description])));
  return made;
}

const described = await (await fetch("/openapi.json")).json();
const all = described.components?.schemas ?? {};
document.getElementById("about").textContent = `The API, version ${described.info.version}`;
// Where the server asks for a token, the examples send it too.
const guarded = (await fetch("/v1/runs")).status === 401;
const sent = guarded ? ' -H "Authorization: Bearer $TOKEN"' : "";
document.getElementById("examples").textContent = [
  ...(guarded ? ["TOKEN=...   # of this server"] : []),
  `curl${sent} --data-binary @cat.jpg -H 'Content-Type: image/jpeg' ${location.origin}/v1/predict`,
  `curl${sent} -F images=@a.jpg -F images=@b.jpg '${location.origin}/v1/predict?explain=1'`,
].join("\n");
document.getElementById("calls").replaceChildren(
  ...Object.entries(described.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, what]) => call(path, method, what, all))),
);
