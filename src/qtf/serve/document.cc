#include <fmt/format.h>

#include "qtf/serve/api.h"
#include "qtf/serve/completion_request.h"

namespace qtf::serve {

namespace {

std::string field_rows(bool completions, bool chat) {
  std::string rows;
  for (const Field& field : completion_fields()) {
    if (field.completions != completions || field.chat != chat) continue;
    rows += fmt::format("| `{}`{} | {} | {} | {} |\n", field.name, field.required ? " (required)" : "",
                        field.type == FieldType::ignored ? "its initial value only" : field_range(field),
                        field.initial, field.help);
  }
  return rows;
}

constexpr std::string_view kFieldHeader = "| field | value | without it | meaning |\n|---|---|---|---|\n";

}  // namespace

std::string markdown_api() {
  std::string text =
      "# API\n"
      "What `qtf serve` answers. Made from its tables: `qtf docs api`.\n"
      "\n"
      "## Paths\n"
      "| | | |\n|---|---|---|\n";
  for (const Route& route : routes())
    text += fmt::format("| {} | `{}` | {}{} |\n", route.method, route.path, route.summary,
                        route.needs_key ? "" : "; needs no key");
  text +=
      "\nWhere the environment's `QTF_API_KEYS` names keys, callers show one: `Authorization: Bearer KEY`. "
      "Bodies are "
      "JSON (`Content-Type: application/json`). A page of another origin may not call the server, nor anyone "
      "under "
      "a host name that it does not know (`--allow-host`). What a caller asked for, its traces and the texts "
      "that "
      "its prompts are found to begin with, is seen under the same key only.\n"
      "\n"
      "## Fields of both\n";
  text += kFieldHeader;
  text += field_rows(true, true) + "\n## Fields of /v1/completions\n";
  text += kFieldHeader;
  text += field_rows(true, false) + "\n## Fields of /v1/chat/completions\n";
  text += kFieldHeader;
  text += field_rows(false, true);
  text +=
      "\nOther fields are refused by name. A field that is `null` counts as left out.\n"
      "\n"
      "## Answers\n"
      "As OpenAI's: `choices` with `text` or `message`, `logprobs`, `finish_reason` (`stop`, `length`); "
      "streamed as "
      "server-sent events that end with `data: [DONE]`. The same model, request and seed give the same text, "
      "whoever else is served, on any number of threads.\n"
      "\n"
      "`usage` also tells `prompt_tokens_details.cached_tokens` (found in the prefix cache) and `energy`: "
      "`joules` "
      "with `low`, `high` and `tier` (`measured` by a counter, or `modelled`: docs/budgets.md), or `null` "
      "where it "
      "could not be measured. With `trace` every choice has a list `trace`, an object a token: `token`, "
      "`position` "
      "of the token read before it and, for that one, `entropy` and `level` by layer (0: none was chosen), "
      "`routed` "
      "through the quantum layer, and the pass's `ms`.\n"
      "\n"
      "## Errors\n"
      "`{\"error\": {\"message\", \"type\", \"param\", \"code\"}}`; `param` names the field that is wrong.\n"
      "\n"
      "| status | when |\n|---|---|\n"
      "| 400 | no HTTP/1.1, no JSON, a field that is unknown, missing or out of range, a prompt longer than "
      "the "
      "context |\n"
      "| 401 | no key, or one that is not known |\n"
      "| 403 | a page of another origin |\n"
      "| 404, 405 | another path, another method (`Allow` says which) |\n"
      "| 413, 431 | a body over 1 MiB, headers over 16 KiB |\n"
      "| 415 | a body that is not said to be JSON |\n"
      "| 421 | a host name that is not the server's |\n"
      "| 429 | more requests a second than `--rate`, or more watchers than 16 (`Retry-After`) |\n"
      "| 500 | the request failed here |\n"
      "| 503 | as many texts wait as may (`Retry-After`), or the server is closing |\n"
      "\n"
      "A caller who takes longer than 30 s to send a request or to take a piece of the answer is hung up on; "
      "so is "
      "one who leaves 1 MiB of a stream unread. Whoever hangs up cancels what was asked for.\n";
  return text;
}

}  // namespace qtf::serve
