"""Issue tokens with Django: a signed-in member of a room may publish there and watch the other members.

In your settings, set ``MOQ_SIGNING_KEYS = "signing"``, and ``include`` this module in your URLs.
"""

from datetime import timedelta

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from moq_token import Claims
from moq_token.issuing import SigningKeys

RELAY = "https://relay.example.com"
LIFETIME = timedelta(minutes=10)
MEMBERS = {"123": {"alice", "bob"}}  # replace with a model of yours

keys = SigningKeys(settings.MOQ_SIGNING_KEYS)


@never_cache
@require_POST
def token(request: HttpRequest, room: str) -> HttpResponse:
    if not request.user.is_authenticated:
        return HttpResponse("sign in first", status=401)
    user = request.user.get_username()
    if user not in MEMBERS.get(room, ()):
        raise PermissionDenied
    claims = Claims(f"rooms/{room}", publish=user, subscribe="", expires=LIFETIME)
    return JsonResponse({"url": f"{RELAY}/rooms/{room}?jwt={keys.sign(claims)}"})


urlpatterns = [path("rooms/<slug:room>/token", token)]
