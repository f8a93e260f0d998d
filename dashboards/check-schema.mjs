// Compares the dashboards with Grafana's own TypeScript types: each file becomes a constant of the type of a dashboard
// whose panels have the options of their kind, and the compiler says what does not fit.
//
//   npm install --prefix FOLDER @grafana/schema@12 typescript@5
//   node dashboards/check-schema.mjs FOLDER
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const folder = process.argv[2];
if (!folder) {
  console.error("usage: node check-schema.mjs FOLDER (where @grafana/schema and typescript are installed)");
  process.exit(2);
}
const dashboards = join(dirname(fileURLToPath(import.meta.url)), "grafana", "dashboards");
const work = join(resolve(folder), "check");
mkdirSync(work, { recursive: true });

const panelTypes = "@grafana/schema/dist/esm/raw/composable";
const kinds = {
  stat: { file: `${panelTypes}/stat/panelcfg/x/StatPanelCfg_types.gen`, custom: "undefined" },
  timeseries: { file: `${panelTypes}/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen`, custom: "timeseries.FieldConfig" },
  bargauge: { file: `${panelTypes}/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen`, custom: "undefined" },
  table: { file: `${panelTypes}/table/panelcfg/x/TablePanelCfg_types.gen`, custom: "table.FieldConfig" },
};

const types = `
import type * as g from "@grafana/schema";
${Object.entries(kinds).map(([kind, { file }]) => `import type * as ${kind} from "${file}";`).join("\n")}

// JSON has the values of an enum, not its names.
export type Plain<T> = T extends string ? \`\${T}\` : T extends (infer U)[] ? Plain<U>[]
  : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;

// What Grafana's Prometheus data source reads of a query; @grafana/schema has only what all data sources share.
interface Query extends g.DataQuery {
  refId: string; datasource: g.DataSourceRef; expr: string; legendFormat: string; editorMode: "code" | "builder";
  format: "time_series" | "table" | "heatmap"; range: boolean; instant: boolean;
}
interface Fields<Custom> {
  defaults: Omit<g.FieldConfig, "custom"> & { custom?: Custom };
  overrides: g.FieldConfigSource["overrides"];
}
// Required here although Grafana does without: a panel has to explain itself.
interface Shown<Kind extends string, Options, Custom>
  extends Omit<g.Panel, "type" | "options" | "fieldConfig" | "targets" | "title" | "description" | "gridPos"> {
  type: Kind; title: string; description: string; gridPos: g.GridPos; targets: Query[]; options: Options;
  fieldConfig: Fields<Custom>;
}
type AnyPanel = g.RowPanel
  | ${Object.entries(kinds).map(([kind, { custom }]) => `Shown<"${kind}", ${kind}.Options, ${custom}>`).join("\n  | ")};
export type Dashboard = Plain<Omit<g.Dashboard, "panels"> & { panels: AnyPanel[] }>;
`;
writeFileSync(join(work, "types.ts"), types);

const names = readdirSync(dashboards).filter((name) => name.endsWith(".json"));
for (const name of names) {
  const json = readFileSync(join(dashboards, name), "utf8");
  const source = `import type { Dashboard } from "./types";\nexport const dashboard: Dashboard = ${json};\n`;
  writeFileSync(join(work, name.replace(/\.json$/, ".ts")), source);
}
const options = {
  compilerOptions: {
    strict: true, noEmit: true, skipLibCheck: true, target: "es2022", module: "esnext", moduleResolution: "bundler", types: [],
  },
  files: names.map((name) => name.replace(/\.json$/, ".ts")),
};
writeFileSync(join(work, "tsconfig.json"), JSON.stringify(options, null, 2));

try {
  execFileSync(process.execPath, [join(resolve(folder), "node_modules", "typescript", "bin", "tsc"), "-p", work], { stdio: "inherit" });
} catch {
  process.exit(1);
}
console.log(`${names.length} dashboards fit Grafana's types`);
