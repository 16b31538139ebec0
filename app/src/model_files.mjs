// Which files are a model: one, or the parts of a split one, as gguf-split calls them: NAME-00001-of-00003.gguf.

const PART = /^(.*)-(\d{5})-of-(\d{5})(\.gguf)$/is;
const NAMED = 5; // missing parts

export const isModelFile = ({ name }) => /\.gguf$/i.test(name);

/** Of files in any order: {name, files: in order, count: how many it has, missing: the names of some that are not there} for each model. */
export function modelsIn(files) {
  const found = new Map();
  for (const file of files) {
    const { key, ...part } = readName(file.name);
    if (!found.has(key)) found.set(key, { ...part, parts: new Map() });
    found.get(key).parts.set(part.number, file);
  }
  return [...found.values()].map(({ parts, count, named }) => {
    const numbers = [...parts.keys()].sort((a, b) => a - b);
    const sorted = numbers.map((number) => parts.get(number));
    const missing = [];
    for (let number = 1; number <= count && missing.length < NAMED; number++) if (!parts.has(number)) missing.push(named(number));
    return { name: sorted[0].name, files: sorted, count, missing };
  });
}

function readName(name) {
  const [, base, number, count, ending] = PART.exec(name) ?? [];
  const isPart = Number(count) > 1 && Number(number) >= 1 && Number(number) <= Number(count);
  if (!isPart) return { key: name, number: 1, count: 1 };
  const named = (one) => `${base}-${String(one).padStart(5, "0")}-of-${count}${ending}`;
  return { key: `${base.toLowerCase()} of ${count}`, number: Number(number), count: Number(count), named };
}
