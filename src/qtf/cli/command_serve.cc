#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <list>
#include <ostream>
#include <thread>

#include "qtf/base/sha256.h"
#include "qtf/cli/compress_report.h"
#include "qtf/cli/making_records.h"
#include "qtf/cli/open_model.h"
#include "qtf/cli/stop_signal.h"
#include "qtf/explain/chat.h"
#include "qtf/serve/api.h"

namespace qtf::cli {
namespace {

constexpr double kDrainSeconds = 10;

/// SHA-256 of each key in the environment's QTF_API_KEYS; spaces or commas between them.
std::vector<std::string> key_hashes() {
  const char* const keys = std::getenv("QTF_API_KEYS");
  std::string_view rest = keys ? keys : "";
  std::vector<std::string> hashes;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find_first_of(" ,\n"), rest.size());
    if (end > 0) hashes.push_back(sha256_hex(rest.substr(0, end)));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return hashes;
}

bool is_loopback(std::string_view host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

serve::HttpOptions read_http_options(const Arguments& arguments) {
  serve::HttpOptions options;
  options.host = arguments.text("--host");
  options.port = static_cast<int>(arguments.integer("--port"));
  options.certificate = arguments.text("--certificate");
  options.key = arguments.text("--certificate-key");
  if (options.certificate.empty() != options.key.empty())
    throw UsageError("--certificate and --certificate-key belong together; give both");
  return options;
}

serve::ApiOptions read_api_options(const Arguments& arguments) {
  serve::ApiOptions options;
  const std::filesystem::path path = arguments.text("MODEL");
  options.model_name = arguments.given("--name") ? arguments.text("--name") : name_of(path);
  options.report = path / kReportFile;
  options.records = path / kAuditFile;
  if (arguments.given("--parent")) {
    options.parent_name = name_of(arguments.text("--parent"));
    if (options.parent_name == options.model_name) options.parent_name += " (parent)";
  }
  options.key_hashes = key_hashes();
  options.requests_per_second = arguments.number("--rate");
  const bool local = is_loopback(arguments.text("--host"));
  if (!local && options.key_hashes.empty() && !arguments.flag("--insecure")) {
    throw UsageError(fmt::format(
        "--host {} lets other machines in: put keys into QTF_API_KEYS, or say --insecure to serve everyone",
        arguments.text("--host")));
  }
  options.explains_by_k2 = arguments.text("--explainer") == "k2";
  if (options.explains_by_k2) explain::endpoint_from_environment();  // throws now, not at the first question
  options.hosts = arguments.list("--allow-host");
  // Under another name only a page that was led here by its own name server calls a local server.
  if (local)
    options.hosts.insert(options.hosts.end(), {"localhost", "127.0.0.1", "[::1]", arguments.text("--host")});
  return options;
}

std::shared_ptr<serve::Engine> open_engine(const Arguments& arguments, const char* model = "MODEL") {
  serve::EngineOptions options;
  options.most_active = arguments.integer("--batch");
  options.most_waiting = arguments.integer("--queue");
  model::LoadedModel loaded = open_model(arguments.text(model), "serve");
  set_cache_type(arguments.text("--cache-dtype"), *loaded.model);
  return std::make_shared<serve::Engine>(std::move(loaded), static_cast<int>(arguments.integer("--threads")),
                                         options);
}

/// Serves the folder's model as it is now; a folder that cannot be opened changes nothing.
void reload(const Arguments& arguments, serve::Api& api, const Streams& streams) {
  try {
    const auto before = api.replace(open_engine(arguments));
    if (!before->drain(kDrainSeconds)) streams.err << "some answers of the model before were cut off\n";
    streams.err << "the model was opened again\n";
  } catch (const std::exception& error) {
    streams.err << "the model was not opened again: " << error.what() << "\n";
  }
}

void run_serve(const Arguments& arguments, const Streams& streams) {
  const serve::HttpOptions http = read_http_options(arguments);
  const StopSignal stop;
  const ReloadSignal hang_up;
  serve::Api api(open_engine(arguments), read_api_options(arguments),
                 arguments.given("--parent") ? open_engine(arguments, "--parent") : nullptr);
  serve::HttpServer server(
      http, [&](const serve::HttpRequest& request, const std::shared_ptr<serve::Reply>& reply) {
        api.handle(request, reply);
      });
  streams.out << fmt::format("serving at {}://{}:{}\n", http.certificate.empty() ? "http" : "https",
                             http.host.find(':') == std::string::npos ? http.host : "[" + http.host + "]",
                             server.port())
              << std::flush;
  while (stop.number() == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (hang_up.take()) reload(arguments, api, streams);
  }
  streams.err << "finishing what was begun\n";
  server.close();
  api.close(kDrainSeconds);  // what is left is refused
  server.wait(1);
}

}  // namespace

extern const Command kServeCommand;
const Command kServeCommand{
    .name = "serve",
    .summary = "Answer OpenAI-style requests over HTTP",
    .details =
        "docs/api.md lists the paths. Only this machine may call unless --host says otherwise. Callers must "
        "show one of the keys in the environment's QTF_API_KEYS, if there are any. SIGHUP opens the model "
        "again; Ctrl-C and SIGTERM finish what was begun.",
    .example = {.call = "qtf serve quickstart-out/chain --port 8080"},
    .options =
        {{.name = "MODEL", .help = "a model folder, a GGUF file or a llama2.c .bin", .required = true},
         {.name = "--host",
          .value = "ADDRESS",
          .initial = "127.0.0.1",
          .help = "the address to listen on; other than this machine's own it needs keys, or --insecure"},
         {.name = "--port",
          .type = ValueType::integer,
          .value = "N",
          .initial = "8080",
          .help = "the port; 0: any free one",
          .min = 0,
          .max = 65535},
         {.name = "--name",
          .value = "TEXT",
          .help = "the model's name for callers; the folder's if not given"},
         {.name = "--parent",
          .value = "MODEL",
          .help = "the dense model that it was made of, to be served beside it under its own name"},
         {.name = "--insecure", .type = ValueType::flag, .help = "serve other machines without keys"},
         {.name = "--allow-host",
          .value = "NAME",
          .help = "another name under which the server may be called",
          .repeated = true},
         {.name = "--certificate", .value = "FILE", .help = "PEM file of a certificate chain: https"},
         {.name = "--certificate-key", .value = "FILE", .help = "PEM file of its private key"},
         {.name = "--batch",
          .type = ValueType::integer,
          .value = "N",
          .initial = "64",
          .help = "most texts written at a time",
          .min = 1,
          .max = 4096},
         {.name = "--queue",
          .type = ValueType::integer,
          .value = "N",
          .initial = "256",
          .help = "most texts that wait; more are refused (503)",
          .min = 1,
          .max = 1e6},
         {.name = "--explainer",
          .value = "NAME",
          .initial = "template",
          .help =
              "who may explain tokens: the program alone, or K2 Think too (qtf explain tells how it is set "
              "up)",
          .choices = {"template", "k2"}},
         {.name = "--rate",
          .type = ValueType::number,
          .value = "X",
          .initial = "50",
          .help = "requests a second that a key may make (429)",
          .min = 0.01},
         cache_dtype_option(),
         threads_option("0: all cores; the texts do not depend on it")},
    .run = run_serve,
};

}  // namespace qtf::cli
