"""For schemathesis: what it makes up is led to what is there, half of the time, so that it gets behind the doors."""

import os
import random

import schemathesis

INSTANCE = os.environ["ST_INSTANCE"]
IDS = {"session_id": os.environ["ST_SESSION"], "job_id": os.environ["ST_JOB"], "number": 0}
WORKFLOW = os.environ["ST_WORKFLOW"]
CHANCE = random.Random(1)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Ids and an instance that are there, and waiting that ends. What is wrong on purpose stays wrong."""
    ids = case.path_parameters or {}
    if CHANCE.random() < 0.5:
        ids |= {name: value for name, value in IDS.items() if name in ids}
    body = case.body
    if not isinstance(body, dict):
        return
    holder = body.get("credentials") if isinstance(body.get("credentials"), dict) else body
    if isinstance(holder.get("url"), str) and holder["url"] and CHANCE.random() < 0.5:
        holder["url"] = INSTANCE
    if isinstance(body.get("wait_ready"), int | float) and 0 < body["wait_ready"] <= 900:
        body["wait_ready"] = 0.1
    if isinstance(body.get("session_id"), str) and len(body["session_id"]) <= 64 and CHANCE.random() < 0.5:
        body["session_id"] = IDS["session_id"]
    if isinstance(body.get("workflow_path"), str) and 0 < len(body["workflow_path"]) <= 1024 and CHANCE.random() < 0.5:
        body["workflow_path"] = WORKFLOW
