"""Laws of columns found by their names: a thing's own id is never a row's, and nothing doubtful is taken in silence."""

from __future__ import annotations

import pytest

from cinefuse.data.tables.familiar import familiar_column


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("user_id,movie_id,rating", "movie_id"),
        ("id,user_id,book_id,rating", "book_id"),  # the id of a row
        ("id,userId,joke_id,rating", "joke_id"),
        ("id,user,score", "id"),
        ("id,user_id,widget_id,gadget_id,rating", None),
        ("id,user_id,gadgetid,rating", None),
        ("id,userId,review_id,rating", None),
        ("id,title,imdb_id", "id"),
        ("User,artistID,weight", "artistID"),
        ("visitorid,itemid,event", "itemid"),
        ("review_id,user_id,business_id,stars", "business_id"),
        ("user_id,podcast_episode_id,rating", "podcast_episode_id"),
        ("user_id,widget_id,gadget_id,rating", None),
        ("user_id,transaction_id,valid,paid", None),
        ("user_id,blog_id,rating", "blog_id"),
        ("userId,catalogId,rating", "catalogId"),
        ("user_id,web-log-id,appUserId,rating", None),
        ("user,content,news,place,rating", None),
        ("user,content_id,rating", "content_id"),
        ("user,artist,plays", "artist"),
        ("impression_id,user_id,impressions", None),
        ("Const,Your Rating,Title", "Const"),
        ("user,title,rating", None),
        ("title,series,genres", None),
    ],
)
def test_the_items_id_is_a_column_of_a_thing_before_one_of_a_row(columns: str, expected: str | None) -> None:
    assert familiar_column(columns.split(","), "item_id") == expected


@pytest.mark.parametrize(
    ("ours", "columns", "expected"),
    [
        ("rating", "user,item,stars", "stars"),
        ("rating", "USER ID,MOVIE ID,RATING (1-5)", "RATING (1-5)"),
        ("rating", "_id,movie_id,rating_val,user_id", "rating_val"),
        ("user_id", "RATING_ID,USER_MD5,MOVIE_ID,RATING", "USER_MD5"),
        ("poster", "id,title,poster_url", "poster_url"),
        ("year", "book_id,title,original_publication_year", "original_publication_year"),
        ("text", "news_id,title,abstract", "abstract"),
        ("rating", "user,item,Book-Rating", "Book-Rating"),
        ("rating", "Const,Your Rating,IMDb Rating", "Your Rating"),
        ("rating", "user,item,taste rating", "taste rating"),
        ("rating", "user,item,first_rating,second_rating", None),
        ("rating", "user,item,taste rating,imdb_score", "taste rating"),
        ("rating", "user,item,averageRating", None),
        ("rating", "user,item,AVG_SCORE", None),
        ("rating", "user,item,IMDb Rating", None),
        ("rating", "user,item,Critics Score", None),
        ("rating", "user,item,contentrating", None),
        ("rating", "user,item,Metascore", None),
        ("rating", "user,item,Age-Rating", None),
        ("user_id", "customer_id,product_id,star_rating", "customer_id"),
        ("user_id", "visitorid,itemid", "visitorid"),
        ("count", "userID,artistID,weight", "weight"),
    ],
)
def test_users_ratings_and_counts_are_known_by_what_public_data_calls_them(
    ours: str, columns: str, expected: str | None
) -> None:
    assert familiar_column(columns.split(","), ours) == expected
