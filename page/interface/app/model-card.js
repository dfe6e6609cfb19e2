/** The model card: a description of the model from its manifest. */

import { say } from "./language.js";
import { newElement, pageElement } from "./page-element.js";

/** @typedef {import("../engine/manifest.js").Manifest} Manifest */

const MILLION = 1e6;

/**
 * Fill the card.
 *
 * @param {Manifest} manifest
 */
export function showModelCard(manifest) {
  const rows = cardRows(manifest).filter(([, value]) => value !== "");
  pageElement("card", HTMLDListElement).replaceChildren(
    ...rows.flatMap(([name, value]) => [newElement("dt", { text: name }), newElement("dd", { text: value })]),
  );
}

/**
 * @param {Manifest} manifest
 * @returns {Array<[string, string]>}
 */
function cardRows({ checkpoint, architecture, graph, tool }) {
  const { moe } = architecture;
  return [
    [say("cardFile"), String(checkpoint.file ?? "")],
    [say("cardGeneration"), String(checkpoint.generation ?? "")],
    [say("cardParameters"), parameters(architecture.parameters)],
    [say("cardLayers"), `${architecture.num_hidden_layers} × ${architecture.hidden_size}`],
    [say("cardExperts"), moe ? `${moe.num_experts_per_tok} / ${moe.n_routed_experts}` : ""],
    [say("cardContext"), say("cardContextTokens", { count: graph.max_length })],
    [say("cardPrecision"), String(graph.precision ?? "")],
    [say("cardSize"), graph.bytes === undefined ? "" : `${(graph.bytes / MILLION).toFixed(1)} MB`],
    [say("cardParity"), parity(graph.parity)],
    [say("cardSha"), `${String(checkpoint.sha256 ?? "").slice(0, 16)}…`],
    [say("cardTool"), `${tool.name ?? ""} ${tool.version ?? ""}`.trim()],
  ];
}

/** @param {{total?: number, active?: number} | undefined} counts */
function parameters(counts) {
  if (counts?.total === undefined) return "";
  const millions = (/** @type {number} */ count) => (count / MILLION).toFixed(1);
  if (counts.active === undefined || counts.active === counts.total) return `${millions(counts.total)} M`;
  return say("cardActive", { total: millions(counts.total), active: millions(counts.active) });
}

/** @param {Record<string, any> | null} report */
function parity(report) {
  if (!report) return say("cardNotVerified");
  return say("cardParityFound", { tokens: report.tokens, equal: report.greedy?.equal, total: report.greedy?.total });
}
