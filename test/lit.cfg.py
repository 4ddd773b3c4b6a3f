# lit configuration: .mlir and .test files anywhere under test/, except Unit (see Unit/lit.cfg.py).
import glob
import os
import lit.formats

config.name = "Quern"
config.test_format = lit.formats.ShTest(True)
config.suffixes = [".mlir", ".test"]
config.excludes = ["Fuzz", "Inputs"] # Unit is found as a suite of its own
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.quern_build, "test")

# Everything a test may name. Files used by tests lie in Inputs folders beside them.
config.environment["PATH"] = os.pathsep.join(
    [os.path.join(config.quern_build, "bin"), config.llvm_tools, os.environ["PATH"]])
config.environment["PYTHONPATH"] = os.pathsep.join(
    [os.path.join(config.quern_build, "python"), os.path.join(config.quern_source, "test")])
if glob.glob(os.path.join(config.quern_build, "python", "quern", "_quern*.so")) and not config.sanitize:
    config.available_features.add("python-package")
config.substitutions.append(("%python_dir", os.path.dirname(config.python)))
config.substitutions.append(("%python", config.python))
config.substitutions.append(("%build", config.quern_build))
config.substitutions.append(("%source", config.quern_source))
config.substitutions.append(("%models", os.path.join(config.quern_source, "models")))
# Reference data that is not part of the repository; tests that need it say REQUIRES: shared.
shared = os.environ.get("QUERN_SHARED", os.path.join(config.quern_source, "..", "shared"))
if os.path.isdir(os.path.join(shared, "vocab")):
    config.available_features.add("shared")
config.substitutions.append(("%shared", os.path.abspath(shared)))
if config.sanitize:
    config.available_features.add("sanitize")
    # LLVM's libraries have no sanitizers: they write to arenas that our copies of their headers' code poisoned.
    config.environment["ASAN_OPTIONS"] = "allow_user_poisoning=0"
if os.environ.get("QUERN_CHECK_FULL") and not config.sanitize: # scripts/check --full: minutes and gigabytes
    config.available_features.add("full")
