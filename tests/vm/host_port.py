"""host_port - what the hosts' helpers of VM tests have in common: FOLDER RUN-DIR DSHOST as arguments, dshost's status, questions of the guest

Questions and answers are lines, "VERB WORD..." and text, through the pipes FOLDER/vm.out and FOLDER/vm.in: the guest's port vm.host.
"""
import json
import subprocess
import sys
import time

folder, run_dir, dshost = sys.argv[1:4]


def vms():
    out = subprocess.run([dshost, "status", "--json", "--run-dir", run_dir], capture_output=True, text=True, timeout=60, check=True).stdout
    return json.loads(out)["vms"]


def shadows():
    return [s for vm in vms() for s in vm["shadows"]]


def count():
    """how many shadows there are, when those that are about to end have ended"""
    for _ in range(600):
        n = len(shadows())
        if n == 0:
            break
        time.sleep(0.1)
    return str(n)


def answer(verbs):
    """answers for ever; what fails is the guest's test's to tell"""
    with open(f"{folder}/vm.out", "r+b", buffering=0) as questions, open(f"{folder}/vm.in", "r+b", buffering=0) as answers:
        line = b""
        while True:
            line += questions.read(1)
            if not line.endswith(b"\n"):
                continue
            verb, *args = line.decode().split()
            line = b""
            try:
                reply = verbs[verb](*args)
            except Exception as e:  # pylint: disable=broad-except
                reply = f"failed: {e!r}"
            answers.write(reply.replace("\n", " ").encode() + b"\n")
