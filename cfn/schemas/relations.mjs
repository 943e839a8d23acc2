// Writes relations.json: which property refers to which attribute of which resource type.
//
// Usage: npm install @aws-cdk/aws-service-spec && node relations.mjs node_modules/@aws-cdk/aws-service-spec > relations.json
//
// Only the facts are taken: resource type, property, target type and attribute.
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

const folder = process.argv[2];
const { schema } = JSON.parse(gunzipSync(readFileSync(`${folder}/db.json.gz`)));
const definitions = new Map(schema.typeDefinition.entities.map((entity) => [entity.$id, entity]));

const targets = (property) =>
  (property.relationshipRefs ?? []).map((ref) => `${ref.cloudFormationType}.${ref.propertyName}`);

const relations = {};
for (const resource of schema.resource.entities) {
  const found = {};
  const collect = (prefix, properties) => {
    for (const [name, property] of Object.entries(properties ?? {})) {
      const kinds = targets(property);
      if (kinds.length > 0) found[prefix + name] = [...new Set(kinds)].sort();
    }
  };
  collect("", resource.properties);
  for (const { $id } of schema.usesType.forward[resource.$id] ?? []) {
    const definition = definitions.get($id);
    collect(`${definition.name}.`, definition.properties);
  }
  if (Object.keys(found).length > 0) {
    relations[resource.cloudFormationType] = Object.fromEntries(Object.entries(found).sort());
  }
}
console.log(JSON.stringify(Object.fromEntries(Object.entries(relations).sort()), null, 1));
