//===- CliChat.cpp - A conversation of several turns ----------------------===//
//
// Each line of input is a turn.
//
//===----------------------------------------------------------------------===//
#include "CliGenerate.h"

namespace quern::runtime::cli {

Status chat(Model &, const Options &) {
  return Status::error(QUERN_ERROR_TOKENIZER, "this program carries no chat template");
}

} // namespace quern::runtime::cli
