//===- TextOptions.h - Texts to calibrate with -------------------*- C++ -*-===//
//
// `--text FILE[=SHARE]` and `--chat FILE[=SHARE]`, each any number of times, for all commands that
// run texts.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_TOOLS_TEXTOPTIONS_H
#define QUERN_TOOLS_TEXTOPTIONS_H

#include "Arguments.h"
#include "quern/Quantize/Calibrate.h"

/// Their lines of a usage text: a literal, so that it joins those around it.
#define QUERN_TEXT_USAGE                                                                           \
  "  --text FILE[=W]       UTF-8, cut into windows (default: built-in prose, public domain).\n"      \
  "                        Several may be given; of one with a weight W < 1 that share of the\n"    \
  "                        windows is read\n"                                                       \
  "  --chat FILE[=W]       conversations, a line of JSON each, as the model's chat template\n"       \
  "                        writes them: {\"messages\": [{\"role\": ..., \"content\": ...}, ...]}\n"

namespace quern::tool {

/// Puts what is given into `texts`, conversations last; it must outlive the arguments.
void addTextOptions(Arguments &arguments, std::vector<quantize::TextSource> &texts);

} // namespace quern::tool

#endif // QUERN_TOOLS_TEXTOPTIONS_H
