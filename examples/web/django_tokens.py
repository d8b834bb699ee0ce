"""Hand out tokens with Django: whoever is signed in, and belongs to a room, may speak there and watch the others.

In the settings of the project, ``MOQ_SIGNING_KEY = "private.jwk"`` and ``ROOT_URLCONF``, or an ``include`` of this.
"""

from datetime import timedelta
from functools import cache

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from moq_token import Claims, Key

RELAY = "https://relay.example.com"
LIFETIME = timedelta(minutes=10)
MEMBERS = {"123": {"alice", "bob"}}  # stands for a model of yours


@cache
def signing_key() -> Key:
    return Key.from_file(settings.MOQ_SIGNING_KEY)


@never_cache
@require_POST
def token(request: HttpRequest, room: str) -> HttpResponse:
    if not request.user.is_authenticated:
        return HttpResponse("sign in first", status=401)
    user = request.user.get_username()
    if user not in MEMBERS.get(room, ()):
        raise PermissionDenied
    claims = Claims(f"rooms/{room}", publish=user, subscribe="", expires=LIFETIME)
    return JsonResponse({"url": f"{RELAY}/rooms/{room}?jwt={signing_key().sign(claims)}"})


urlpatterns = [path("rooms/<slug:room>/token", token)]
