#!/usr/bin/env bash
# One command for everything; `./run.sh help` says what there is.
set -euo pipefail

# Paths from the environment are meant from where the user stands; -s leaves links what they are,
# without which the Python of a virtual environment would be that of the system.
absolute() { realpath -ms -- "$1"; }

wanted=${PYTHON:-}
if [[ $wanted == */* ]]; then wanted=$(absolute "$wanted"); fi
VENV=${VENV:+$(absolute "$VENV")}
WORK=${WORK:+$(absolute "$WORK")}
cd "$(dirname "${BASH_SOURCE[0]}")"
VENV=${VENV#"$PWD"/} WORK=${WORK#"$PWD"/}
: "${VENV:=.venv}" "${WORK:=.runs}"
readonly wanted VENV WORK python=$VENV/bin/python mark=.made-by-run.sh

# Not in the checkout, which may be read-only.
export RUFF_CACHE_DIR=$WORK/cache/ruff MYPY_CACHE_DIR=$WORK/cache/mypy

usage() {
  cat <<'TEXT'
./run.sh             set up if needed, then the whole way on the embedded sample:
                     images -> records -> training -> evaluation -> report
./run.sh test ...    set up if needed, then formatter, linter, types and all tests
./run.sh check ...   the same with the quick tests only: pytest -m "not slow"
./run.sh bench ...   set up if needed, then images a second beside other ways to feed
./run.sh python      print which Python an environment would be made with
./run.sh clean       remove the environment, the results and the caches
./run.sh help        this text

What follows test or check goes to pytest, what follows bench to the benchmark.

From the environment:
  PYTHON   a Python 3.10 to 3.13, as a version (3.12) or a command; else the first that runs of
           3.11 (which has all parts), 3.12, 3.13, 3.10, on PATH or among those of pyenv
  VENV     folder of the virtual environment (.venv), made anew for another PYTHON
  WORK     folder of results and caches (.runs)
With VENV and WORK elsewhere, this folder may be read-only.
TEXT
}

say() { printf '\n== %s\n' "$*"; }

fail() {
  echo "run.sh: error: $*" >&2
  exit 1
}

run() {
  printf '+ %s\n' "$*"
  "$@"
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# An alias of a version manager may be there and not run; Debian packs venv apart from Python.
can_set_up() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

# Prints the first Python that can be used of the versions given.
first_of() {
  local version found
  for version in "$@"; do
    while read -r found; do
      if can_set_up "$found"; then
        echo "$found"
        return
      fi
    done < <(
      type -ap "python$version"
      compgen -G "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/$version.*/bin/python" | sort -rV
    )
  done
  return 1
}

# Prints the Python that the environment is to be made with.
find_python() {
  case $wanted in
    "")
      first_of 3.11 3.12 3.13 3.10 ||
        fail "no Python 3.10 to 3.13 with venv was found; install one, 3.11 for all parts"
      ;;
    3.1[0-3])
      first_of "$wanted" || fail "PYTHON=$wanted: no such Python with venv was found"
      ;;
    [0-9]*) fail "PYTHON=$wanted: 3.10 to 3.13 will do" ;;
    *)
      local version
      version=$(version_of "$wanted") || fail "PYTHON=$wanted does not run"
      [[ $version == 3.1[0-3] ]] || fail "PYTHON=$wanted is $version; 3.10 to 3.13 will do"
      can_set_up "$wanted" || fail "PYTHON=$wanted has no venv; on Debian, python3-venv brings it"
      echo "$wanted"
      ;;
  esac
}

# Takes a folder for what is made here; one that the user named may hold other things by mistake.
take() {
  if [[ $1 != .venv && $1 != .runs && ! -e $1/$mark && -n $(ls -A "$1" 2>/dev/null) ]]; then
    fail "$1 is not empty and was not made by run.sh; name another folder"
  fi
  mkdir -p "$1"
  touch "$1/$mark"
}

# The lock holds everything; the CUDA libraries (nvidia-*) only make sense beside a GPU.
locked_requirements() {
  if nvidia-smi >/dev/null 2>&1; then
    cat requirements.lock
  else
    awk '/^[a-z]/ { skip = /^nvidia-/ } !skip' requirements.lock
  fi
}

is_set_up() {
  [ -x "$python" ] && [ "$(cat "$VENV/lock.sha256" 2>/dev/null)" = "$1" ] &&
    { [ -z "$wanted" ] || [ "$(version_of "$python")" = "$(version_of "$2")" ]; }
}

set_up() {
  local base="" lock
  if [ -n "$wanted" ]; then base=$(find_python); fi
  lock=$(locked_requirements | sha256sum)
  if ! is_set_up "$lock" "$base"; then
    base=${base:-$(find_python)}
    say "Setting up $VENV with $("$base" --version) (about 2.5 GB, a minute or a few)"
    take "$VENV"
    find "$VENV" -mindepth 1 ! -path "$VENV/$mark" -delete
    run "$base" -m venv "$VENV"
    locked_requirements >"$VENV/requirements.txt"
    run "$python" -m pip install --disable-pip-version-check \
      --require-hashes -r "$VENV/requirements.txt"
    echo "$lock" >"$VENV/lock.sha256"
  fi
  take "$WORK"
}

pack_sample() {
  run "$python" -m records.build_main --source=records/sample \
    --labels=records/sample/labels.csv --output="$WORK/sample/records"
}

main_job() {
  set_up
  run rm -rf "$WORK/sample"
  say "Packing the sample: letters O and X, from fonts and by hand"
  pack_sample
  run "$python" -m records.inspect_main verify --records="$WORK/sample/records"
  say "Training"
  run "$python" -m models.train_main --records="$WORK/sample/records" \
    --run_dir="$WORK/sample/run" --model=lenet --augment=glyph --target=balanced --epochs=40
  say "Evaluating on the test split"
  run "$python" -m models.evaluate_main --run_dir="$WORK/sample/run"
  what_next
}

what_next() {
  local to=""
  if [ ! -w . ]; then to=$WORK/; fi
  say "That worked"
  cat <<TEXT
Open $(absolute "$WORK/sample/run/report.html") in a browser:
what the model gets right, what not, and how sure that is.

Next, with your own pictures: a folder, here photos, with a folder of pictures for each class.
From $PWD:

  source $(printf %q "$VENV")/bin/activate
  python -m records.build_main --source=photos --output=${to}photos.records
  python -m models.train_main --records=${to}photos.records --run_dir=${to}runs/first \\
      --target=balanced --augment=photo --epochs=100
  python -m models.evaluate_main --run_dir=${to}runs/first

README.md goes through these steps; each command has --help.
TEXT
}

# Formatter, linter and types, then the tests that pytest's arguments choose.
tests() {
  set_up
  say "Format, lint, types"
  run "$python" -m ruff format --check .
  run "$python" -m ruff check .
  run "$python" -m mypy
  say "Tests"
  run "$python" -m pytest -n 2 -o cache_dir="$(absolute "$WORK")/cache/pytest" "$@"
}

bench_job() {
  set_up
  say "Benchmark on 32,768 rows made from the sample"
  pack_sample
  run "$python" -m datapipe.benchmark_main --records="$WORK/sample/records" \
    --output="$WORK/bench" "$@"
}

clean() {
  local folder
  for folder in "$VENV" "$WORK"; do
    if [ -e "$folder" ]; then
      take "$folder"
      run rm -rf "$folder"
    fi
  done
  run rm -rf .mypy_cache .pytest_cache .ruff_cache # of tools that were run by hand
}

case "${1:-main}" in
  main) main_job ;;
  test) tests "${@:2}" ;;
  check) tests -m "not slow" "${@:2}" ;;
  bench) bench_job "${@:2}" ;;
  python) find_python ;;
  clean) clean ;;
  help | -h | --help) usage ;;
  *)
    echo "run.sh: error: no such command: $1" >&2
    usage >&2
    exit 2
    ;;
esac
