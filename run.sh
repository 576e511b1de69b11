#!/usr/bin/env bash
# One command for everything; `./run.sh help` says what there is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly VENV=.venv PYTHON=.venv/bin/python WORK=.runs

usage() {
  cat <<'TEXT'
./run.sh         set up if needed, then the whole way on the embedded sample:
                 images -> records -> training -> evaluation -> report
./run.sh test    set up if needed, then formatter, linter, types and tests
./run.sh bench   set up if needed, then images a second beside other ways to feed
./run.sh clean   remove the environment, the results and the caches
./run.sh help    this text
TEXT
}

say() { printf '\n== %s\n' "$*"; }

run() {
  printf '+ %s\n' "$*"
  "$@"
}

# The first Python that is there and runs; an alias of a version manager may be there and not run.
find_python() {
  local version found
  for version in 3.11 3.12 3.13 3.10; do
    found=$(command -v "python$version" || true)
    if [ -n "$found" ] && "$found" -c 'import ensurepip, venv' 2>/dev/null; then
      echo "$found"
      return
    fi
  done
  echo "run.sh: error: no Python 3.10 to 3.13 with venv was found; install one, 3.11 for all parts" >&2
  return 1
}

# The lock holds everything; the CUDA libraries (nvidia-*) only make sense beside a GPU.
locked_requirements() {
  if nvidia-smi >/dev/null 2>&1; then
    cat requirements.lock
  else
    awk '/^[a-z]/ { skip = /^nvidia-/ } !skip' requirements.lock
  fi
}

set_up() {
  local wanted
  wanted=$(locked_requirements | sha256sum)
  if [ -x "$PYTHON" ] && [ "$(cat "$VENV/lock.sha256" 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  local python
  python=$(find_python)
  say "Setting up $VENV with $("$python" --version) (about 2.5 GB, a minute or a few)"
  run rm -rf "$VENV"
  run "$python" -m venv "$VENV"
  locked_requirements >"$VENV/requirements.txt"
  run "$PYTHON" -m pip install --quiet --disable-pip-version-check \
    --require-hashes -r "$VENV/requirements.txt"
  echo "$wanted" >"$VENV/lock.sha256"
}

pack_sample() {
  run "$PYTHON" -m records.build_main --source=records/sample \
    --labels=records/sample/labels.csv --output="$WORK/sample/records"
}

main_job() {
  set_up
  run rm -rf "$WORK/sample"
  say "Packing the sample: letters O and X, from fonts and by hand"
  pack_sample
  run "$PYTHON" -m records.inspect_main verify --records="$WORK/sample/records"
  say "Training"
  run "$PYTHON" -m models.train_main --records="$WORK/sample/records" \
    --run_dir="$WORK/sample/run" --model=lenet --augment=glyph --target=balanced --epochs=40
  say "Evaluating on the test split"
  run "$PYTHON" -m models.evaluate_main --run_dir="$WORK/sample/run"
}

test_job() {
  set_up
  say "Format, lint, types"
  run "$PYTHON" -m ruff format --check .
  run "$PYTHON" -m ruff check .
  run "$PYTHON" -m mypy
  say "Tests"
  run "$PYTHON" -m pytest -n 2 "$@"
}

bench_job() {
  set_up
  say "Benchmark on 32,768 rows made from the sample"
  pack_sample
  run "$PYTHON" -m datapipe.benchmark_main --records="$WORK/sample/records" \
    --output="$WORK/bench" "$@"
}

case "${1:-main}" in
  main) main_job ;;
  test) test_job "${@:2}" ;;
  bench) bench_job "${@:2}" ;;
  clean) run rm -rf "$VENV" "$WORK" .mypy_cache .pytest_cache .ruff_cache ;;
  help | -h | --help) usage ;;
  *)
    echo "run.sh: error: no such command: $1" >&2
    usage >&2
    exit 2
    ;;
esac
