"""Checks that relative links of the README and the pages under docs lead to files, and anchors to headings.

usage: check_links.py ROOT
"""
import glob, os, re, sys

root = sys.argv[1]
pages = [os.path.join(root, "README.md")] + sorted(glob.glob(os.path.join(root, "docs", "**", "*.md"), recursive=True))
broken = []


def anchors(page):
    headings = re.findall(r"^#+ +(.*)$", open(page, encoding="utf-8").read(), re.M)
    return {re.sub(r"[^\w\- ]", "", h.replace("`", "").lower()).strip().replace(" ", "-") for h in headings}


count = 0
for page in pages:
    for target in re.findall(r"\]\(([^)\s]+)\)", open(page, encoding="utf-8").read()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        path = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
        count += 1
        if not os.path.exists(path) or anchor and anchor not in anchors(path):
            broken.append(f"{os.path.relpath(page, root)}: {target}")
assert count > 10, "the pages were not found"
assert not broken, "\n".join(broken)
