// Continues a prompt with the most likely tokens: write_text MODEL PROMPT TOKENS
#include <cstdlib>
#include <iostream>

#include "qtf/base/error.h"
#include "qtf/base/thread_pool.h"
#include "qtf/model/generate.h"
#include "qtf/model/model_folder.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: write_text MODEL PROMPT TOKENS\n";
    return 2;
  }
  try {
    qtf::ThreadPool pool(2);
    const qtf::model::LoadedModel loaded = qtf::model::load_model(argv[1]);
    if (!loaded.tokenizer) qtf::throw_input_error("write_text", "{}", loaded.tokenizer_problem);
    loaded.model->prepare(qtf::tt::Use::inference, pool);
    qtf::model::GenerateOptions options;
    options.tokens = std::atoi(argv[3]);
    options.sampling.temperature = 0;
    const auto print = [](std::string_view piece) { std::cout << piece << std::flush; };
    qtf::model::generate(*loaded.model, *loaded.tokenizer, argv[2], options, print, &pool);
    std::cout << "\n";
  } catch (const std::exception& error) {
    std::cerr << "write_text: " << error.what() << "\n";
    return 1;
  }
}
