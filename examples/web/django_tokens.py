"""Issue tokens with Django, to the members of a room who are signed in.

Set ``MOQ_SIGNING_KEYS = "signing"`` in your settings, and ``include`` this
module in your URLs.
"""

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from moq_token.issuing import Issuer

RELAY = "https://relay.example.com"
MEMBERS = {"123": {"alice", "bob"}}  # replace with a model of yours

issuer = Issuer(settings.MOQ_SIGNING_KEYS, RELAY, lifetime="1h")


@never_cache
@require_POST
def token(request: HttpRequest, room: str) -> HttpResponse:
    if not request.user.is_authenticated:
        return HttpResponse("sign in first", status=401)
    user = request.user.get_username()
    if user not in MEMBERS.get(room, ()):
        raise PermissionDenied
    where = f"rooms/{room}"
    credential = issuer.grant(where, publish=user, subscribe="", subject=user)
    return JsonResponse(credential.to_members(), status=201)


urlpatterns = [path("rooms/<slug:room>/token", token)]
