"""Read a run's memory from a script: the survivors of its last round and what each was made from.

python scripts/inspect_memory.py runs/quickstart
"""

import sys

from selfimprove import ResponseMemory

if __name__ == "__main__":
    with ResponseMemory.open(f"{sys.argv[1]}/memory.db") as memory:
        last = memory.rounds()[-1].round
        kept = [verdict.response_id for verdict in memory.verdicts(last).values() if verdict.kept]
        question = {prompt.id: prompt.text for prompt in memory.prompts()}
        for response in memory.responses(ids=kept):
            made_from = f"  (made from {', '.join(map(str, response.parents))})" if response.parents else ""
            print(f"{response.id:6} {response.origin:9} {question[response.prompt_id]} -> {response.text}{made_from}")
