//===- Quantize.cpp - quern quantize --------------------------------------===//
//
// The best file of a size: GGUF, or an executable.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Quantize.h"
#include "Arguments.h"
#include "Commands.h"
#include "Progress.h"
#include "TextOptions.h"
#include "quern/Quantize/Allocation.h"
#include "quern/Quantize/Cost.h"
#include "quern/Quantize/Recipe.h"
#include "quern/Quantize/Sensitivity.h"
#include "quern/Quantize/Transform.h"
#include "quern/Support/OutputFile.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"
#include <unistd.h>

namespace quern::tool {

static const char usage[] =
    "usage: quern quantize MODEL -o OUT BUDGET [options]\n\n"
    "Rounds the matrices of a float model, each to the format that keeps the model's predictions\n"
    "best within the budget. OUT is a GGUF file if its name ends in .gguf; the quantized IR, with\n"
    "OUT.weights beside it, if it ends in .mlirbc (.mlir: as text); else an executable. MODEL may be\n"
    "IR of `quern transform`; OUT then is no GGUF file.\n\n"
    "  --size N              bytes of the file, at most: 80MB (1e6), 80MiB (2^20)\n"
    "  --bits B              stored bits per weight over all matrices, at most\n"
    "  --max-kl K            mean KL divergence on held-back windows of the text, at most: the\n"
    "                        smallest file that bisection finds\n"
    "  --tokens-per-second R decoding at least this fast, by the cost model\n"
    "  --bit-operations N    of a token's products, at most: 80M, 2G\n"
    "  --format F            one for all (Q4_K, ...)\n"
    "  --allocation FILE     a format for each, of `quern allocate`\n"
    "                        One budget; with --engine ilp or greedy, one of the first two and "
    "one\n"
    "                        of the two before --format.\n"
    "  --cost C              what decides about speed; the names below (default: what the budget\n"
    "                        asks for)\n"
    "  --time-limit S        seconds; what is not done then is estimated or rounded to nearest. "
    "The\n"
    "                        result depends on the machine, as with no other option\n"
    QUERN_TEXT_USAGE
    "  --statistics FILE     of `quern calibrate`, in place of a new run\n"
    "  --formats F,F,...     formats to choose from: names (`quern formats`) or, with semicolons\n"
    "                        between them, spellings. GGUF takes its own types alone\n"
    "  --override P=F        this format for the tensors whose name matches a pattern: "
    "'blk.0.*=Q8_0';\n"
    "                        P=keep leaves them as they are\n"
    "  --target T,...        CPUs of an executable, as of `quern compile`\n"
    "  --activations A       how they enter products, of an executable or IR: as of `quern compile`\n"
    "  --kv-cache T, --context N\n"
    "                        the same: f16 (default), f32, q8_0 or q4; positions of a sequence\n"
    "  --transform T,...     first move outliers (`quern transform --help` lists transforms)\n"
    "  --solver S            descent (default), feedback, search, nearest; the names below\n"
    "  --sequential          once formats are chosen, round part by part for what the quantized parts\n"
    "                        before let through; kept if the held-back windows agree\n"
    "  --damping D           share of its own added to the diagonal of the Hessian (default: 0.2)\n"
    "  --provider P          says what to expect of formats: measured (default); the names below\n"
    "  --seed N              of the probes of hutchinson and eigenvalue (default: 1)\n"
    "  --engine E            knapsack (default); the names below\n"
    "  --calibration-tokens N\n"
    "                        of the text, for statistics (default: all, fewer for large models)\n"
    "  --measure-tokens N    of the text, for measuring (default: 8192, fewer for large models)\n"
    "  --measure-effort N    that default N times (default: 1)\n"
    "  --recipe R            options from a file or a report, or a shipped one: fast, balanced,\n"
    "                        best; what else is given goes before it\n"
    "  --report FILE         write the report as JSON, with the recipe that makes OUT again\n"
    "  --work DIR            keep candidates and measurements there, and use what is there\n"
    "  --work-limit N        bytes of candidates in DIR (default: 20GB); those that were not used for\n"
    "                        longest go\n"
    "  --allow-requantize    the loss is then relative to a lossy source\n"
    "  --dry-run             print the table, write nothing\n"
    "  --force               overwrite OUT\n"
    "  --threads N           the result does not depend on it (default: all cores)\n"
    "  --json                the report as JSON\n";

static const char allocateUsage[] =
    "usage: quern allocate MODEL -o FILE BUDGET [options]\n"
    "       quern allocate MODEL --compare-providers [options]\n\n"
    "Chooses a format for every matrix, as `quern quantize` does with the same budget and options\n"
    "(quern quantize --help), and writes the choice as JSON. `quern quantize --allocation FILE` "
    "takes\n"
    "it. A budget of --size counts the bytes of a GGUF file.\n\n"
    "  --compare-providers   measure every candidate of every matrix, and print how well each\n"
    "                        provider orders them; no budget, no file\n";

static void printUsage(llvm::raw_ostream &os) {
  os << usage << "\nengines, which choose among formats; the report compares all:\n";
  for (const quantize::EngineInfo &engine : quantize::engines())
    os << "  " << llvm::left_justify(engine.name, 22) << engine.summary << "\n";
  os << "\nsolvers (--solver):\n";
  for (const quantize::SolverInfo &solver : quantize::solvers())
    os << "  " << llvm::left_justify(solver.name, 22) << solver.summary << "\n";
  os << "\nproviders (--provider):\n";
  for (const quantize::ProviderInfo &provider : quantize::providers())
    os << "  " << llvm::left_justify(provider.name, 22) << provider.summary << "\n";
  os << "\ncost models (--cost):\n";
  for (const quantize::CostInfo &cost : quantize::costModels())
    os << "  " << llvm::left_justify(cost.name, 22) << cost.summary << "\n";
}

/// Sets what a recipe says; its model if there is one.
static llvm::Error applyRecipe(llvm::StringRef name, const Arguments &arguments,
                               quantize::QuantizeOptions &options) {
  llvm::Expected<quantize::Recipe> recipe = quantize::readRecipe(name);
  if (!recipe)
    return recipe.takeError();
  for (const quantize::Recipe::Option &option : recipe->options) {
    if (option.name == "model" && option.value)
      options.model = *option.value;
    else if (llvm::Error e = arguments.set("--" + option.name, option.value))
      return llvm::createStringError("recipe '" + name + "': " + llvm::toString(std::move(e)));
  }
  options.expectedInputs = std::move(recipe->inputs);
  return llvm::Error::success();
}

static void printComparison(const llvm::json::Object &report) {
  llvm::outs() << "rank correlation with " << report.getInteger("candidates").value_or(0)
               << " measured divergences, " << report.getInteger("tokens").value_or(0)
               << " tokens\n\nprovider       all   within a format\n";
  const llvm::json::Object &all = *report.getObject("providers");
  for (const quantize::ProviderInfo &provider : quantize::providers())
    if (const llvm::json::Object *found = all.getObject(provider.name))
      llvm::outs() << llvm::left_justify(provider.name, 11)
                   << llvm::format("%7.3f %17.3f\n", found->getNumber("all").value_or(0),
                                   found->getNumber("within").value_or(0));
}

/// Both commands: `allocate` stops at the choice.
static int quantizeOrAllocate(int argc, char **argv, bool allocates) {
  quantize::QuantizeOptions options;
  std::string reportPath, recipe, allocationPath;
  bool json = false, help = false, compares = false;
  Arguments arguments;
  arguments.option("-o", allocates ? allocationPath : options.output);
  if (allocates)
    arguments.flag("--compare-providers", compares);
  else
    arguments.option("--allocation", options.allocation);
  addTextOptions(arguments, options.texts);
  arguments.option("--statistics", options.statistics);
  arguments.option("--report", reportPath);
  arguments.option("--recipe", recipe);
  arguments.option("--work", options.work);
  arguments.option("--work-limit", [&](llvm::StringRef text) -> llvm::Error {
    return quantize::parseSize(text).moveInto(options.workLimit);
  });
  arguments.option("--format", options.format);
  arguments.option("--engine", options.engine);
  arguments.option("--activations", options.activations);
  arguments.option("--kv-cache", options.kvCache);
  arguments.number("--context", options.context);
  arguments.number("--threads", options.threads);
  arguments.number("--calibration-tokens", options.calibrationTokens);
  arguments.number("--measure-tokens", options.measureTokens);
  arguments.number("--seed", options.seed);
  arguments.number("--measure-effort", options.measureEffort);
  arguments.flag("--sequential", options.sequential);
  arguments.flag("--dry-run", options.dryRun);
  arguments.flag("--force", options.force);
  arguments.flag("--json", json);
  arguments.flag("--allow-requantize", options.allowRequantize);
  auto real = [&](llvm::StringRef name, double &value) {
    arguments.option(name, [&value, name](llvm::StringRef text) -> llvm::Error {
      if (text.getAsDouble(value) || !(value >= 0) || value > 1e6)
        return llvm::createStringError("'" + name + "' needs a number, not '" + text + "'");
      return llvm::Error::success();
    });
  };
  real("--bits", options.bits);
  real("--max-kl", options.maxKl);
  real("--tokens-per-second", options.tokensPerSecond);
  real("--time-limit", options.timeLimit);
  arguments.option("--cost", options.cost);
  arguments.option("--bit-operations", [&](llvm::StringRef text) -> llvm::Error {
    return quantize::parseSize(text).moveInto(options.bitOperations);
  });
  real("--damping", options.damping);
  arguments.option("--size", [&](llvm::StringRef text) -> llvm::Error {
    return quantize::parseSize(text).moveInto(options.size);
  });
  arguments.option("--formats", [&](llvm::StringRef text) {
    options.formats = quantize::splitFormats(text);
    return llvm::Error::success();
  });
  arguments.option("--target", [&](llvm::StringRef text) {
    options.targets.clear();
    for (llvm::StringRef name : llvm::split(text, ','))
      options.targets.push_back(name.str());
    return llvm::Error::success();
  });
  arguments.option("--transform", [&](llvm::StringRef text) {
    options.transforms = quantize::splitTransforms(text);
    return llvm::Error::success();
  });
  arguments.option("--override", [&](llvm::StringRef text) -> llvm::Error {
    auto [pattern, format] = text.rsplit('=');
    if (pattern.empty() || format.empty())
      return llvm::createStringError("'--override' needs PATTERN=FORMAT, not '" + text + "'");
    options.overrides.emplace_back(pattern.str(), format.str());
    return llvm::Error::success();
  });
  arguments.option("--solver", [&](llvm::StringRef text) -> llvm::Error {
    return quantize::parseMethod(text).moveInto(options.method);
  });
  arguments.option("--provider", [&](llvm::StringRef text) -> llvm::Error {
    options.provider = text.str();
    return quantize::parseProvider(text).takeError();
  });
  for (int i = 1; i < argc; ++i) {
    llvm::StringRef arg = argv[i];
    if (arg == "--recipe" && i + 1 < argc)
      arg = argv[i + 1];
    else if (!arg.consume_front("--recipe="))
      continue;
    if (llvm::Error e = applyRecipe(arg, arguments, options))
      return fail(std::move(e));
  }
  // Texts of the command line take the place of a recipe's.
  std::vector<quantize::TextSource> recipeTexts = std::exchange(options.texts, {});
  llvm::Expected<std::vector<std::string>> rest = arguments.parse(argc, argv, help);
  if (options.texts.empty())
    options.texts = std::move(recipeTexts);
  if (help) {
    llvm::consumeError(rest.takeError());
    if (allocates)
      llvm::outs() << allocateUsage;
    else
      printUsage(llvm::outs());
    return Success;
  }
  auto wrong = [allocates](const llvm::Twine &message) {
    llvm::errs() << "quern: error: " << message << "\n\n" << (allocates ? allocateUsage : usage);
    return int(Usage);
  };
  if (!rest)
    return wrong(llvm::toString(rest.takeError()));
  if (rest->size() > 1 || (rest->empty() && options.model.empty()))
    return wrong("expected one model");
  if (!rest->empty())
    options.model = (*rest)[0];
  if (allocates) {
    options.dryRun = true;
    if (allocationPath.empty() != compares)
      return wrong(compares ? "--compare-providers writes no file" : "no output given (-o)");
    if (!compares)
      if (llvm::Error e = checkWritable(allocationPath, options.force))
        return fail(std::move(e));
  }
  options.recipe = !reportPath.empty();
  if (options.recipe)
    if (llvm::Error e = checkWritable(reportPath, options.force))
      return fail(std::move(e));
  llvm::Expected<llvm::json::Object> report = [&] {
    ProgressLine line;
    if (isatty(2))
      options.progress = [&](llvm::StringRef phase, double fraction) {
        return line(phase, fraction);
      };
    options.note = [](const std::string &text) { llvm::errs() << "quern: note: " << text << "\n"; };
    return compares ? quantize::compareProviders(options) : quantize::quantize(options);
  }();
  if (!report)
    return fail(report.takeError());
  if (compares) {
    if (json)
      llvm::outs() << llvm::json::Value(std::move(*report)) << "\n";
    else
      printComparison(*report);
    return Success;
  }
  if (allocates) {
    llvm::Expected<OutputFile> file = OutputFile::create(allocationPath, options.force);
    if (!file)
      return fail(file.takeError());
    file->stream() << llvm::formatv("{0:2}\n", llvm::json::Value(quantize::allocationOf(*report)));
    if (llvm::Error e = file->keep())
      return fail(std::move(e));
    (*report)["output"] = allocationPath;
    (*report)["dry_run"] = false;
    (*report)["written"] = nullptr;
  }
  if (options.recipe) {
    llvm::Expected<OutputFile> file = OutputFile::create(reportPath, options.force);
    if (!file)
      return fail(file.takeError());
    file->stream() << llvm::formatv("{0:2}\n", llvm::json::Value(llvm::json::Object(*report)));
    if (llvm::Error e = file->keep())
      return fail(std::move(e));
  }
  if (json)
    llvm::outs() << llvm::json::Value(std::move(*report)) << "\n";
  else
    quantize::printReport(*report, llvm::outs());
  return Success;
}

int quantizeModel(int argc, char **argv) { return quantizeOrAllocate(argc, argv, false); }
int allocateModel(int argc, char **argv) { return quantizeOrAllocate(argc, argv, true); }

} // namespace quern::tool
