//===- Compile.cpp - quern compile ----------------------------------------===//
//
// Options, progress and the report; lib/Pipeline does the work.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Compile.h"
#include "Commands.h"
#include "Progress.h"
#include "TextOptions.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Process.h"

using namespace llvm;
using namespace quern;

static const char *const help =
    R"(usage: quern compile MODEL [-o OUT] [options]

Compiles a model (a GGUF file or a Hugging Face directory) to a native program that carries
its weights and tokenizer and needs only libc.

  quern compile model.gguf -o chat && ./chat "Once upon a time"
  quern compile models/tiny --format q4_0 -o tiny

  -o OUT              the file to write (default: the model's name, here)
  --format F          encode float weights in this format, by name (q8_0, q4_K, nf4; docs/Formats.md)
                      or spelled out ("i4, scale f16[1x32]"); default: they keep their own type
  --solver S          how --format rounds. Without it to nearest, as tools of file formats do, in
                      seconds; descent, feedback or search calibrate first (minutes) and lose a
                      third to two thirds less, as `quern quantize --format` does
  --text FILE[=W], --chat FILE[=W], --statistics FILE, --allow-requantize
                      what a solver calibrates with (default: built-in prose), and that it may round
                      coded weights again: as of quern quantize --help
  --target T,...      x86-64-v3, icelake-server, znver4, sapphirerapids, aarch64, native
                      (default: one program with the first, second and fourth; it chooses at start)
  --context N         positions a sequence may have (default: the model's, at most 4096)
  --kv-cache T        f16, f32, q8_0 or q4 (default: f32 for a model of f32, else f16)
  --activations A     how activations enter products with coded weights: fast (default), f32,
                      bf16, q8, int8, q4, int4
  --passes P          first run these passes over the model, as quern-opt spells a pipeline:
                      'quern-rotate-inputs{data=FOLDER}' (docs/Passes.md)
  --weights W         embed (default) or beside: in a file OUT.weights
  --code C            packed (default): a program unpacks its code when it starts, in some milliseconds;
                      plain: for systems where a program may not make memory executable
  --emit KIND         exe (default), shared, lib, obj; asm, llvm (of one target);
                      kernels, mlir, bytecode (the model before and after lowering)
  --size N, --bits B, --max-kl K, --tokens-per-second R
                      quantize to this budget first: the program is then what `quern quantize`
                      makes, and its options hold (quern quantize --help)
  --dry-run           print sizes, memory and plan; write nothing
  --force             overwrite OUT
  --threads N         for compiling; the result is the same (default: all cores)
  --json              the report as JSON
)";

namespace {
int usage(const Twine &message) {
  errs() << "quern compile: error: " << message << " (quern compile --help explains)\n";
  return tool::Usage;
}

void printReport(const json::Object &report) {
  auto number = [](const json::Object &o, StringRef key) {
    return double(o.getInteger(key).value_or(0));
  };
  auto line = [&](StringRef name) { return left_justify(name, 12); };
  outs() << line("model") << report.getString("name").value_or("") << " ("
         << report.getString("architecture").value_or("") << ")\n";
  if (const json::Object *formats = report.getObject("formats"))
    for (const auto &[name, value] : *formats) {
      const json::Object &f = *value.getAsObject();
      double bytes = number(f, "bytes"), parameters = number(f, "parameters");
      outs() << line("weights") << left_justify(StringRef(name), 12)
             << llvm::format("%5.0f tensors %9.2f M parameters %9.2f MiB %6.2f bits each\n",
                             number(f, "tensors"), parameters / 1e6, bytes / 1048576,
                             bytes * 8 / parameters);
    }
  if (const json::Array *padded = report.getArray("padded"))
    for (const json::Value &value : *padded) {
      const json::Object &p = *value.getAsObject();
      outs() << line("padded") << p.getString("format").value_or("")
             << llvm::format(": blocks of %.0f do not divide the rows of %.0f elements of %.0f "
                             "tensors; padded they take %.2f bits each\n",
                             number(p, "block"), number(p, "columns"), number(p, "tensors"),
                             p.getNumber("bits").value_or(0));
    }
  if (const json::Object *rounding = report.getObject("rounding"))
    outs() << line("rounding")
           << llvm::formatv("solver {0}, calibrated with {1} tokens of {2}\n",
                            rounding->getString("solver").value_or(""),
                            rounding->getInteger("tokens").value_or(0),
                            rounding->getString("text").value_or(""));
  if (const json::Object *memory = report.getObject("memory"))
    outs() << line("memory")
           << llvm::format(
                  "%.1f MiB weights (mapped), %.1f MiB scratch, %.1f MiB KV cache (%s) for "
                  "%.0f tokens\n",
                  number(*memory, "weights") / 1048576, number(*memory, "scratch") / 1048576,
                  number(*memory, "cache_per_sequence") / 1048576,
                  report.getString("kv_cache").value_or("").str().c_str(),
                  number(report, "context"));
  if (const json::Array *targets = report.getArray("targets")) {
    outs() << line("targets");
    for (size_t i = 0; i < targets->size(); ++i) {
      const json::Object &t = *(*targets)[i].getAsObject();
      outs() << (i ? ", " : "") << t.getString("name").value_or("") << " ("
             << t.getInteger("kernels").value_or(0) << " kernels)";
    }
    outs() << "\n";
  }
  StringRef output = report.getString("output").value_or("");
  if (report.getBoolean("dry_run").value_or(false))
    outs() << line("output") << output << " (not written: --dry-run)\n";
  else if (report.get("bytes"))
    outs() << line("output") << output
           << llvm::format(", %.2f MiB\n", number(report, "bytes") / 1048576);
  else
    outs() << line("output") << output << "\n";
}
} // namespace

namespace quern::tool {

int compileModel(int argc, char **argv) {
  for (int i = 1; i < argc; ++i)
    if (StringRef name = StringRef(argv[i]).split('=').first;
        name == "--size" || name == "--bits" || name == "--max-kl" ||
        name == "--tokens-per-second" || name == "--bit-operations")
      return quantizeModel(argc, argv);
  CompileOptions options;
  quantize::RoundingOptions rounding;
  bool json = false, isHelp = false, calibrates = false;
  Arguments arguments;
  auto choice = [&](StringRef name, StringRef no, StringRef yes, bool &value) {
    arguments.option(name, [&value, name, yes, no](StringRef text) -> Error {
      if (text != yes && text != no)
        return createStringError("'" + name + "' is '" + no + "' or '" + yes + "', not '" + text +
                                 "'");
      value = text == yes;
      return Error::success();
    });
  };
  arguments.option("-o", options.output);
  arguments.option("--format", options.format);
  arguments.option("--kv-cache", options.kvCache);
  arguments.option("--passes", options.passes);
  arguments.option("--activations", options.activations);
  arguments.number("--context", options.context);
  arguments.number("--threads", options.threads);
  arguments.flag("--dry-run", options.dryRun);
  arguments.flag("--force", options.force);
  arguments.flag("--json", json);
  choice("--weights", "embed", "beside", options.weightsBeside);
  choice("--code", "plain", "packed", options.packCode);
  arguments.option("--target", [&](StringRef text) {
    for (StringRef name : split(text, ','))
      if (!name.trim().empty())
        options.targets.push_back(name.trim().str());
    return Error::success();
  });
  arguments.option("--emit", [&](StringRef text) -> Error {
    if (Error e = parseEmitKind(text).moveInto(options.emit))
      return createStringError("'--emit': " + toString(std::move(e)));
    return Error::success();
  });
  arguments.option("--solver", [&](StringRef text) -> Error {
    calibrates = true;
    return quantize::parseMethod(text).moveInto(rounding.method);
  });
  addTextOptions(arguments, rounding.texts);
  arguments.option("--statistics", rounding.statistics);
  arguments.flag("--allow-requantize", rounding.allowRequantize);
  Expected<std::vector<std::string>> models = arguments.parse(argc, argv, isHelp);
  if (isHelp) {
    consumeError(models.takeError());
    outs() << help;
    return Success;
  }
  if (!models)
    return usage(toString(models.takeError()));
  if (models->size() > 1)
    return usage("more than one model: '" + (*models)[0] + "' and '" + (*models)[1] + "'");
  if (!models->empty())
    options.model = models->front();
  if (!calibrates && (!rounding.texts.empty() || !rounding.statistics.empty()))
    return usage("texts and statistics are for a solver, and none is given (--solver)");
  if (options.model.empty())
    return usage("no model given");

  Expected<json::Object> report = [&]() -> Expected<json::Object> {
    ProgressLine line;
    if (sys::Process::StandardErrIsDisplayed())
      options.progress = [&](StringRef phase, double fraction) { return line(phase, fraction); };
    rounding.note = [](const std::string &text) { errs() << "quern: note: " << text << "\n"; };
    return calibrates ? quantize::compileRounded(options, rounding) : compile(options);
  }();
  if (!report)
    return fail(report.takeError());
  if (json)
    outs() << json::Value(std::move(*report)) << "\n";
  else
    printReport(*report);
  return Success;
}

} // namespace quern::tool
