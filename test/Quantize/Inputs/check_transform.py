"""usage: check_transform.py logits A.npy B.npy TOLERANCE     B is A, relative to A's largest logit, and not the same bits
       check_transform.py kl FILE.json... CONDITION         the condition holds of the files' mean KLs by name, such as 'plain > 10 * smooth'"""
import json
import os
import sys

import numpy as np

if sys.argv[1] == "logits":
    a, b = np.load(sys.argv[2]).astype(np.float64), np.load(sys.argv[3]).astype(np.float64)
    error = np.abs(a - b).max() / np.abs(a).max()
    print("largest difference", error)
    assert error < float(sys.argv[4]), error
    assert error > 0, "nothing changed"
else:
    *files, condition = sys.argv[2:]
    kl = {os.path.splitext(os.path.basename(f))[0]: json.load(open(f))["kl_mean"] for f in files}
    print(kl)
    assert eval(condition, {}, kl), (condition, kl)
