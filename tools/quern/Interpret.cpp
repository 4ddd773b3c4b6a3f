//===- Interpret.cpp - quern interpret ------------------------------------===//
//
// Runs a model in the reference interpreter: slow, plain, and what compiled programs are
// compared with.
//
//===----------------------------------------------------------------------===//
#include "Commands.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "quern/Architectures/Architectures.h"
#include "quern/Import/Tokenizer.h"
#include "quern/Pipeline/InspectModule.h"
#include "quern/Pipeline/ModuleFile.h"
#include "quern/Pipeline/Register.h"
#include "quern/Reference/Interpreter.h"
#include "quern/Runtime/Tokenizer.h"
#include "quern/Support/OutputFile.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/JSON.h"
#include <numeric>

using namespace llvm;
using namespace quern;
using reference::Interpreter;

namespace {
const char help[] =
    "usage: quern interpret MODEL (--tokens 1,2,3 | --prompt TEXT) [options]\n\n"
    "Runs MODEL (a GGUF file, a Hugging Face directory, or model-level IR as text or bytecode)\n"
    "in the reference interpreter. Prints the most probable next tokens.\n\n"
    "  --tokens IDS          the input, as token ids\n"
    "  --prompt TEXT         the input, as text\n"
    "  -n N                  then append N tokens, each the most probable one\n"
    "  --top N               print the N largest logits after the input (10)\n"
    "  --logits FILE.npy     write the logits of every input token, f32 [tokens, vocabulary]\n"
    "  --chunk N             take the input N tokens at a time (0: all at once)\n"
    "  --split N             take the input as sequences of N tokens that know nothing of each\n"
    "                        other (0: as one); not with -n or --chunk\n"
    "  --activations FORMAT  f32, bf16, q8, int8, q4 or int4 in every product (as the model says)\n"
    "  --fast FORMAT         what `fast` activations mean (as compiled: q8, or bf16 for weights\n"
    "                        whose codes are no integers)\n"
    "  --kv-cache TYPE       f32, f16, q8_0 or q4, for a model file (f16)\n"
    "  --context N           positions of a sequence, for a model file (its own)\n"
    "  --force               overwrite files\n"
    "  --json                print an object with `tokens`, `top` and `generated`\n";

struct Options {
  std::string model, prompt, logits;
  std::optional<std::vector<int32_t>> tokens;
  bool hasPrompt = false, force = false, json = false;
  int64_t generate = 0, top = 10, chunk = 0, split = 0;
  reference::InterpreterOptions interpreter;
  architectures::BuildOptions build;
};

Expected<std::vector<int32_t>> parseTokens(StringRef text) {
  std::vector<int32_t> tokens;
  SmallVector<StringRef> parts;
  text.split(parts, ',', -1, false);
  for (StringRef part : parts) {
    int32_t id;
    if (part.trim().getAsInteger(10, id))
      return createStringError("'" + part.trim() + "' is no token id");
    tokens.push_back(id);
  }
  return tokens;
}

Expected<reference::ActivationFormat> parseActivations(StringRef text) {
  using reference::ActivationFormat;
  auto format = StringSwitch<std::optional<ActivationFormat>>(text)
                    .Case("f32", ActivationFormat::F32)
                    .Case("bf16", ActivationFormat::BF16)
                    .Case("q8", ActivationFormat::Q8)
                    .Case("int8", ActivationFormat::Int8)
                    .Case("q4", ActivationFormat::Q4)
                    .Case("int4", ActivationFormat::Int4)
                    .Default(std::nullopt);
  if (!format)
    return createStringError("unknown activation format '" + text +
                             "'; known: f32, bf16, q8, int8, q4, int4");
  return *format;
}

Error parseNumber(StringRef option, StringRef text, int64_t &out) {
  if (text.getAsInteger(10, out) || out < 0)
    return createStringError(option + " needs a number, found '" + text + "'");
  return Error::success();
}

/// Sets the option that takes `value`; std::nullopt: there is no such option.
std::optional<Error> parseValue(Options &options, StringRef name, StringRef value) {
  auto store = [](auto expected, auto &out) -> Error {
    if (!expected)
      return expected.takeError();
    out = std::move(*expected);
    return Error::success();
  };
  if (name == "--tokens")
    return store(parseTokens(value), options.tokens);
  if (name == "--activations")
    return store(parseActivations(value), options.interpreter.activations);
  if (name == "--fast")
    return store(parseActivations(value), options.interpreter.fast);
  if (name == "-n")
    return parseNumber(name, value, options.generate);
  if (name == "--top")
    return parseNumber(name, value, options.top);
  if (name == "--chunk")
    return parseNumber(name, value, options.chunk);
  if (name == "--split")
    return parseNumber(name, value, options.split);
  if (name == "--context")
    return parseNumber(name, value, options.build.context);
  if (name == "--logits")
    options.logits = value.str();
  else if (name == "--prompt") {
    options.prompt = value.str();
    options.hasPrompt = true;
  } else if (name == "--kv-cache") {
    std::optional<CacheElement> element = symbolizeCacheElement(value);
    if (!element)
      return createStringError("unknown cache type '" + value + "'; known: f32, f16, q8_0, q4");
    options.build.cache = *element;
  } else {
    return std::nullopt;
  }
  return Error::success();
}

Error parse(int argc, char **argv, Options &options) {
  for (int i = 1; i < argc; ++i) {
    StringRef a = argv[i];
    if (a == "--force" || a == "--json") {
      (a == "--force" ? options.force : options.json) = true;
    } else if (a.starts_with("-")) {
      auto [name, value] = a.split('=');
      bool inside = a.contains('=');
      if (!inside && i + 1 < argc)
        value = argv[i + 1];
      std::optional<Error> error = parseValue(options, name, value);
      if (!error)
        return createStringError("unknown option '" + name + "'");
      if (*error)
        return std::move(*error);
      if (!inside && ++i == argc)
        return createStringError(name + " needs a value");
    } else if (options.model.empty()) {
      options.model = a.str();
    } else {
      return createStringError("unexpected argument '" + a + "'");
    }
  }
  if (options.model.empty())
    return createStringError("no model given");
  if (options.tokens.has_value() == options.hasPrompt)
    return createStringError("expected either --tokens or --prompt");
  if (options.split && (options.chunk || options.generate))
    return createStringError("--split does not go with --chunk or -n");
  return Error::success();
}

/// Builds or parses the module.
Expected<mlir::OwningOpRef<mlir::ModuleOp>> load(mlir::MLIRContext &context,
                                                 const Options &options) {
  StringRef path = options.model;
  if (!isModule(path))
    return architectures::importModel(context, path, options.build);
  std::string messages;
  mlir::ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &diagnostic) {
    raw_string_ostream(messages) << diagnostic.getLocation() << ": " << diagnostic.str();
    return mlir::success();
  });
  auto module = mlir::parseSourceFile<mlir::ModuleOp>(path, &context);
  if (!module)
    return createStringError(messages.empty() ? path + ": cannot be read" : Twine(messages));
  if (Error e = resolveData(*module, path))
    return std::move(e);
  return std::move(module);
}

/// The tokenizer's blob: of IR as it carries it, else of the model.
Expected<std::vector<uint8_t>> tokenizerBlob(mlir::ModuleOp module, const Options &options,
                                             std::string &error) {
  if (isModule(options.model)) {
    Expected<ModuleExtras> extras = readModuleExtras(module, options.model);
    if (!extras)
      return extras.takeError();
    return std::move(extras->tokenizer);
  }
  Expected<import::ModelFile> model = import::open(options.model);
  if (!model)
    return model.takeError();
  Expected<runtime::TokenizerData> data = import::readTokenizer(*model);
  if (!data)
    return data.takeError();
  return data->serialize(error);
}

Expected<std::vector<int32_t>> tokenizePrompt(mlir::ModuleOp module, const Options &options) {
  std::string error;
  Expected<std::vector<uint8_t>> read = tokenizerBlob(module, options, error);
  if (!read)
    return read.takeError();
  const std::vector<uint8_t> &blob = *read;
  std::unique_ptr<runtime::Tokenizer> tokenizer;
  if (error.empty())
    tokenizer = runtime::Tokenizer::load(blob.data(), blob.size(), error);
  if (!tokenizer)
    return createStringError(options.model + ": " + error);
  std::vector<int32_t> ids = tokenizer->prefix();
  std::vector<int32_t> text = tokenizer->encode(options.prompt, false, &error);
  if (!error.empty())
    return createStringError(options.model + ": " + error);
  ids.insert(ids.end(), text.begin(), text.end());
  return ids;
}

/// A two-dimensional f32 array as numpy reads it.
Error writeNpy(StringRef path, ArrayRef<float> values, int64_t cols, bool force) {
  Expected<OutputFile> file = OutputFile::create(path, force);
  if (!file)
    return file.takeError();
  std::string header = ("{'descr': '<f4', 'fortran_order': False, 'shape': (" +
                        Twine(values.size() / cols) + ", " + Twine(cols) + "), }")
                           .str();
  header.resize(alignTo(header.size() + 11, 64) - 11, ' ');
  header += '\n';
  raw_ostream &os = file->stream();
  os << StringRef("\x93NUMPY\x01\x00", 8) << char(header.size() & 0xff) << char(header.size() >> 8)
     << header;
  for (float value : values) {
    char bytes[4];
    support::endian::write32le(bytes, bit_cast<uint32_t>(value));
    os.write(bytes, 4);
  }
  return file->keep();
}

/// The ids of the `count` largest of `row`, largest first (ties: the lower id).
std::vector<int32_t> largest(ArrayRef<float> row, size_t count) {
  std::vector<int32_t> ids(row.size());
  std::iota(ids.begin(), ids.end(), 0);
  count = std::min(count, ids.size());
  // A NaN is less than everything, so that the order is one.
  auto before = [&](int32_t a, int32_t b) {
    bool nanA = std::isnan(row[a]), nanB = std::isnan(row[b]);
    if (nanA || nanB)
      return nanA != nanB ? nanB : a < b;
    return row[a] != row[b] ? row[a] > row[b] : a < b;
  };
  std::partial_sort(ids.begin(), ids.begin() + count, ids.end(), before);
  ids.resize(count);
  return ids;
}

/// Logits of all tokens.
Expected<std::vector<float>> forward(Interpreter &interpreter, ArrayRef<int32_t> tokens,
                                     const Options &options) {
  if (options.split) {
    std::vector<int32_t> positions, sequences, outputs;
    for (size_t i = 0; i < tokens.size(); ++i) {
      positions.push_back(i % options.split);
      sequences.push_back(i / options.split);
      outputs.push_back(i);
    }
    return interpreter.forward({tokens, positions, sequences, outputs});
  }
  std::vector<float> logits;
  size_t chunk = options.chunk ? options.chunk : tokens.size();
  for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
    auto part =
        interpreter.forward(tokens.slice(begin, std::min(chunk, tokens.size() - begin)), begin);
    if (!part)
      return part.takeError();
    logits.insert(logits.end(), part->begin(), part->end());
  }
  return logits;
}

Error run(const Options &options) {
  mlir::DialectRegistry registry;
  registerDialects(registry);
  mlir::MLIRContext context(registry);
  auto module = load(context, options);
  if (!module)
    return module.takeError();
  Expected<std::vector<int32_t>> tokens =
      options.hasPrompt ? tokenizePrompt(**module, options) : *options.tokens;
  if (!tokens)
    return tokens.takeError();
  if (tokens->empty())
    return createStringError("the input has no tokens");
  if (!options.logits.empty())
    if (Error error = checkWritable(options.logits, options.force))
      return error;
  reference::InterpreterOptions interpreterOptions = options.interpreter;
  if (options.split)
    interpreterOptions.sequences = divideCeil(tokens->size(), options.split);
  auto interpreter = Interpreter::create(**module, interpreterOptions);
  if (!interpreter)
    return interpreter.takeError();
  Expected<std::vector<float>> result = forward(**interpreter, *tokens, options);
  if (!result)
    return result.takeError();
  std::vector<float> logits = std::move(*result);

  int64_t vocabulary = (*interpreter)->vocabulary();
  if (!options.logits.empty())
    if (Error error = writeNpy(options.logits, logits, vocabulary, options.force))
      return error;

  std::vector<float> last(logits.end() - vocabulary, logits.end());
  std::vector<int32_t> top = largest(last, options.top);
  json::Array topArray, generated;
  for (int32_t id : top)
    topArray.push_back(json::Array{id, last[id]});
  if (!options.json)
    for (int32_t id : top)
      outs() << llvm::format("%8d  %.5f\n", id, last[id]);
  for (int64_t i = 0; i < options.generate; ++i) {
    int32_t id = largest(last, 1)[0];
    generated.push_back(id);
    if (!options.json)
      outs() << (i ? " " : "") << id << (i + 1 == options.generate ? "\n" : "");
    if (i + 1 == options.generate)
      break;
    auto next = (*interpreter)->forward(id, tokens->size() + i);
    if (!next)
      return next.takeError();
    last = std::move(*next);
  }
  if (options.json)
    outs() << json::Value(json::Object{{"tokens", json::Array(*tokens)},
                                       {"top", std::move(topArray)},
                                       {"generated", std::move(generated)}})
           << "\n";
  return Error::success();
}
} // namespace

int quern::tool::interpret(int argc, char **argv) {
  for (int i = 1; i < argc; ++i)
    if (StringRef(argv[i]) == "--help" || StringRef(argv[i]) == "-h") {
      outs() << help;
      return Success;
    }
  Options options;
  if (Error error = parse(argc, argv, options)) {
    fail(std::move(error));
    errs() << "\n" << help;
    return Usage;
  }
  if (Error error = run(options))
    return fail(std::move(error));
  return Success;
}
