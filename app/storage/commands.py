"""`kibotos storage init`: set up the bucket of the videos."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import click

from app.config import Settings

if TYPE_CHECKING:
    from app.storage.bucket import Bucket


@click.command()
@click.option(
    "--origin",
    "origins",
    multiple=True,
    help="Web origin that may upload; give it several times for several.  [default: CORS_ORIGINS, or any]",
)
@click.pass_obj
def init(settings: Settings, origins: tuple[str, ...]) -> None:
    """Create S3_BUCKET and its rules, and print the policy for the key of the service.

    With MIRROR_BUCKET it also lets anyone read the weights and ledgers in there, and nothing else.

    This command needs a key that may create and configure buckets. The service itself needs only the rights
    in the policy, which goes to stdout. Rules that you have made stay. If a store does not offer a rule, the
    command says so and leaves it out. You can run it again without harm.
    """
    from app.clients.storage_faults import StorageFault
    from app.storage.bucket import ABORT_RULES, EXPIRY_ID, Bucket, make_policy, sheets_rule

    bucket = Bucket(settings)
    origins = origins or settings.cors_origins or ("*",)
    try:
        _create(settings.s3_bucket, bucket)
        _try(f"CORS rule for {', '.join(origins)}", partial(bucket.allow_browsers, origins))
        for rule in ABORT_RULES:
            prefix = rule["Filter"]["Prefix"]
            _try(
                f"Rule that removes incomplete uploads under {prefix} after a day",
                partial(bucket.add_lifecycle_rule, rule),
            )
        # older releases offered it, and it would delete what was accepted
        _try("No rule that deletes old videos", partial(bucket.remove_lifecycle_rule, EXPIRY_ID))
        kept = settings.retain_contact_sheets_days
        _try("Rule that deletes old contact sheets", partial(bucket.add_lifecycle_rule, sheets_rule(kept)))
        if settings.mirror_bucket:
            mirror = Bucket(replace(settings, s3_bucket=settings.mirror_bucket))
            if settings.mirror_bucket != settings.s3_bucket:
                _create(settings.mirror_bucket, mirror)
            _try("Policy that lets anyone read the mirror", mirror.publish_mirror)
    except StorageFault as fault:
        raise click.ClickException(f"Storage: {fault.detail}. {fault.advice}") from fault
    _say("The policy for the key of the service:")
    policy = make_policy(settings.s3_bucket, settings.s3_region, settings.mirror_bucket)
    click.echo(json.dumps(policy, indent=2))


def _create(name: str, bucket: "Bucket") -> None:
    _say(f"Bucket {name}: {'created' if bucket.create() else 'is there already'}.")


def _try(what: str, step: Callable[[], None]) -> None:
    from app.storage.bucket import NotOffered

    try:
        step()
    except NotOffered as error:
        _say(f"{what}: left out, since this store does not offer it ({error}).")
    else:
        _say(f"{what}: set.")


def _say(line: str) -> None:
    # stdout is for the policy only
    click.echo(line, err=True)
